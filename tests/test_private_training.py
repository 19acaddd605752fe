"""`orthofed client train --private-to`: sealed at home, shown, sent, opened by who was named."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orthofed.client.egress import PRIVATE_LEAVES
from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.recipient_key import load_recipient, new_recipient, public_half, recipients
from orthofed.client.sealing import open_private
from orthofed.client.state import BLOB, MANIFEST, SEALED, WRAPS
from orthofed.core.contribution import ContributionManifest
from orthofed.core.document import parse
from orthofed.core.errors import InputError
from orthofed.core.recipient import Recipient

from .coordinator_process import Coordinator, run
from .training_owner import TrainingOwner
from .training_owner import place as place  # noqa: PLC0414  # a fixture


@pytest.fixture(scope="module")
def coordinator(place: Path) -> Iterator[Coordinator]:
    with Coordinator.found(place / "fed", place / "base", "--rank", "1") as running:
        yield running


@pytest.fixture
def owner(coordinator: Coordinator, place: Path, tmp_path: Path) -> TrainingOwner:
    home = Home.at(tmp_path / "home")
    join(home, coordinator.invite(), url=None, patience_s=20)
    return TrainingOwner(place, home)


@pytest.fixture
def carla(tmp_path: Path) -> Recipient:
    return new_recipient(tmp_path / "carla.key")


def test_what_leaves_is_sealed_and_said_to_be(owner: TrainingOwner, carla: Recipient) -> None:
    """The gate shows files, tensors and readers; only the ciphertext is sent; Carla opens it."""
    session = owner.train(replace(owner.options("wolf-a1"), private_to=(carla,)))

    folder = owner.home.run("wolf-a1")
    (listing,) = owner.asked
    assert session.phase == "receipted"
    assert {file.name: file.num_bytes for file in listing.files} == {
        "manifest.json": (folder / MANIFEST).stat().st_size,
        "contribution.sealed": (folder / SEALED).stat().st_size,
        "wraps": 640,
    }
    assert listing.recipients == (carla.to_text(),)
    assert listing.wording == PRIVATE_LEAVES
    assert any(tensor.name.startswith("a.") for tensor in listing.tensors)
    manifest = ContributionManifest.from_document(
        parse((folder / MANIFEST).read_bytes(), kind="contribution")
    )
    private = load_recipient(folder.parents[2] / "carla.key")
    sealed, wraps = ((folder / name).read_bytes() for name in (SEALED, WRAPS))
    assert open_private(manifest, sealed, wraps, private) == (folder / BLOB).read_bytes()
    sent = (owner.home.folder / "outbox.jsonl").read_text()
    assert wraps.hex() in sent
    page = (folder / "log" / str(session.fence) / "report.html").read_text()
    assert "readable by the key holders you named" in page
    assert carla.to_text() in page


def test_who_said_no_can_name_other_readers_and_nothing_is_trained_twice(
    owner: TrainingOwner, carla: Recipient, tmp_path: Path
) -> None:
    """Packed public, declined; then private: packed anew. Approved: the readers stay."""
    dora = new_recipient(tmp_path / "dora.key")
    options = owner.options("bear-b2")
    owner.answer = False
    with pytest.raises(InputError, match="were not sent"):
        owner.train(options)
    steps = owner.steps()

    with pytest.raises(InputError, match="were not sent"):
        owner.train(replace(options, private_to=(carla,)))
    with pytest.raises(InputError, match="were not sent"):
        owner.train(options)  # without a word about readers it stays sealed
    owner.answer = True
    owner.train(replace(options, private_to=(carla, dora)))

    assert owner.steps() == steps
    assert [len(listing.recipients) for listing in owner.asked] == [0, 1, 1, 2]


def test_readers_cannot_change_once_bytes_may_have_left(
    owner: TrainingOwner, carla: Recipient
) -> None:
    """Approved and cut off: the same command goes on, another one is refused."""
    options = replace(owner.options("lynx-c3"), private_to=(carla,))

    def cut(happened) -> None:
        if happened.name == "uploading":
            raise ConnectionError

    owner.on_event = cut
    with pytest.raises(ConnectionError):
        owner.train(options)
    owner.on_event = lambda _: None
    other = Recipient.from_text(new_recipient(owner.home.folder / "other").to_text())

    with pytest.raises(InputError, match="approved for 1 readers") as refused:
        owner.train(replace(options, private_to=(other,)))
    session = owner.train(options)

    assert refused.value.code == "other-recipients"
    assert session.phase == "receipted"


@pytest.mark.parametrize("name", [SEALED, WRAPS, "recipients"])
def test_a_sealed_file_that_changed_on_the_disk_is_not_sent(
    name: str, owner: TrainingOwner, carla: Recipient
) -> None:
    """Between packing and sending somebody changes what would leave: it stops."""
    options = replace(owner.options(f"hare-{len(name)}"), private_to=(carla,))
    owner.answer = False
    with pytest.raises(InputError, match="were not sent"):
        owner.train(options)
    path = owner.home.run(options.concept) / name
    path.write_bytes(b"" if name == "recipients" else path.read_bytes()[:-1] + b"\0")

    with pytest.raises(InputError, match="not those that were packed"):
        owner.train(replace(options, private_to=()))


def test_recipients_are_words_or_files_of_words(carla: Recipient, tmp_path: Path) -> None:
    """A file names several; what is neither word nor file says what was expected."""
    dora = new_recipient(tmp_path / "dora.key")
    named = tmp_path / "team.txt"
    named.write_text(f"{carla.to_text()}\n{dora.to_text()}\n")

    assert recipients([carla.to_text()]) == (carla,)
    assert recipients([str(named)]) == (carla, dora)
    for wrong in (str(tmp_path / "none.txt"), "ofr1:AAAA", str(tmp_path / "dora.key")):
        with pytest.raises(InputError) as refused:
            recipients([wrong])
        assert refused.value.code == "bad-recipient"


def test_a_key_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Mode 0600; another mode is refused with the chmod; it is never written over."""
    path = tmp_path / "carla.key"
    made = new_recipient(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert public_half(load_recipient(path)) == made
    with pytest.raises(InputError, match="is there already"):
        new_recipient(path)
    path.chmod(0o644)
    with pytest.raises(InputError, match="mode 0644, allowed is 0600") as refused:
        load_recipient(path)
    assert (refused.value.code, refused.value.fix) == (
        "recipient-key-open",
        f"run chmod 600 {path}",
    )
    path.chmod(0o600)
    path.write_text("no key")
    with pytest.raises(InputError, match="holds no recipient key"):
        load_recipient(path)
    with pytest.raises(InputError, match="is missing"):
        load_recipient(tmp_path / "none")


def test_the_command_prints_the_line_that_owners_need(tmp_path: Path) -> None:
    """`recipient new` makes the file, `recipient show` says the same again, as JSON too."""
    path = str(tmp_path / "carla.key")

    made = run("recipient", "new", path).stdout
    shown = json.loads(run("recipient", "show", path, "--json").stdout)

    assert made.strip() == shown["recipient"]
    assert Recipient.from_text(made)
    assert "PRIVATE" not in made
