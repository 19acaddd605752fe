"""A release without a concept that everybody may read: all are sealed, or the last one left."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from orthofed.coordinator import slot_rows
from orthofed.core.keys import SigningKey

from .coordinator_process import run
from .owner import Owner
from .serving import Running, founded, running
from .test_local_merge import contribute, files, merge

CARLA, DORA = (X25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
REX, EVA = (SigningKey.from_seed(bytes([n]) * 32) for n in (11, 12))
TEXTS = {"card.md", "info.json"}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Rex for Carla, Eva for Carla and Dora, and nobody else; one release."""
    with running(founded(tmp_path_factory.mktemp("sealed"))) as coordinator:
        member = coordinator.member()
        contribute(member, "rex", REX, CARLA)
        contribute(member, "eva", EVA, CARLA, DORA)
        coordinator.release()
        yield coordinator


def pull(coordinator: Running, out: Path, *more: str) -> str:
    words = ("pull", coordinator.desk.link(), "-o", str(out), "--patience", "20", *more)
    return run(*words).stdout


def test_sealed_concepts_alone_are_merged_by_their_readers(tmp_path: Path) -> None:
    """A twin has both publicly: Carla's merge at home has the very bytes of its release."""
    one = founded(tmp_path / "one")
    other = type(one).open(shutil.copytree(one.root, tmp_path / "two" / "fed", symlinks=True))
    with running(one) as coordinator:
        member = coordinator.member()
        contribute(member, "rex", REX, CARLA)
        contribute(member, "eva", EVA, CARLA, DORA)
        coordinator.release(614)
        both = merge(coordinator, tmp_path / "both", lambda_1024=614)
        alone = merge(coordinator, tmp_path / "alone", DORA, lambda_1024=614)
    with running(other) as coordinator:
        member = coordinator.member()
        contribute(member, "rex", REX)
        contribute(member, "eva", EVA)
        coordinator.release(614)

    public, here = files(other.releases / "1"), files(tmp_path / "both")
    for name in ("manifest.json", "info.json"):  # nobody signs or describes a merge at home
        public.pop(name)
        here.pop(name, None)
    assert here == public
    assert (both.public, both.private) == ((), ("rex", "eva"))
    assert (alone.private, alone.num_sealed_for_others) == (("eva",), 1)


def test_who_holds_no_key_gets_what_is_signed_and_can_check_it(
    sealed: Running, tmp_path: Path
) -> None:
    """Two texts and the trust folder, verified, and rebuilt from no contribution at all."""
    out = tmp_path / "out"
    said = pull(sealed, out, "--contributions")
    base = str(sealed.house.settings.base)

    told = run("verify", str(out), "--rebuild", "--base", base).stdout

    assert {name for name in files(out) if not name.startswith("trust/")} == {
        *TEXTS,
        "manifest.json",
    }
    assert "left out of it: 2 private" in said
    assert "it holds no concept that everybody may read" in said
    assert "with --key and --base" in said
    assert "every byte follows from 0 contributions" in told
    card = (out / "card.md").read_text()
    assert "No concept that everybody may read: the model is the base." in card
    assert "--key FILE --base FOLDER" in card
    assert [line for line in card.splitlines() if line.startswith("|")] == []


def test_files_for_a_program_are_not_to_be_had_of_it(sealed: Running, tmp_path: Path) -> None:
    words = ("pull", sealed.desk.link(), "-o", str(tmp_path / "out"), "--as", "diffusers")

    done = run(*words, check=False)

    assert done.returncode == 2
    assert "release 1 holds no concept that everybody may read" in done.stderr
    assert "--key" in done.stderr


def test_one_byte_changed_in_it_is_found(sealed: Running, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pull(sealed, out)
    (out / "card.md").write_text((out / "card.md").read_text().replace("No concept", "A concept"))

    done = run("verify", str(out), check=False)

    assert done.returncode != 0
    assert "card.md" in done.stderr


def test_the_last_one_withdrawn_is_out_of_the_next_release(tmp_path: Path) -> None:
    """Slot and blob are free with it; then nothing is new, and the next concept comes alone."""
    with running(founded(tmp_path)) as coordinator:
        anna = Owner.joined(tmp_path / "a", coordinator.invite())
        session = anna.contribute("anna", seed=1)
        coordinator.release()
        anna.withdraw("anna")
        kept = coordinator.folder.blob(session.blob).exists()

        empty, again = coordinator.release(), coordinator.release()

        assert kept
        assert not coordinator.folder.blob(session.blob).exists()
        phases = [row.phase for row in coordinator.house.store.run(slot_rows.every)]
        assert phases[session.slot] == "free"
        assert (empty["n"], empty["concepts"], again["n"], again["new"]) == (2, 0, 2, False)
        folder = coordinator.folder.releases / "2"
        assert {*files(folder)} == {*TEXTS, "manifest.json"}
        told = json.loads((folder / "info.json").read_bytes())
        assert (told["concepts"], told["files"], len(told["withdrawn"])) == ([], [], 1)
        assert b"anna" not in b"".join(path.read_bytes() for path in folder.iterdir())
        said = pull(coordinator, tmp_path / "out")
        assert "it holds no concept" in said
        assert "--key" not in said, "nothing in it is sealed"

        anna.contribute("bert", seed=2)
        assert coordinator.release()["concepts"] == 1
