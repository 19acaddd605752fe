"""Pictures of what is in quarantine, drawn by the real worker: who sees them, and when they go."""

import base64
import io
import re
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from orthofed.admission.worker import Worker
from orthofed.coordinator.backup import back_up
from orthofed.coordinator.control import ControlServer
from orthofed.core.errors import InputError, VerificationFailed
from orthofed.core.evidence_picture import MOST_BYTES, places

from .paged import Paged, paged
from .serving import FastFs, Running, founded, running
from .test_admit import WAITS, contribute
from .test_sample_picture import GOOD, with_text

ALONE = {f"{each.name}.png" for each in places(has_release=False)}
BESIDE = {f"{each.name}.png" for each in places(has_release=True)}


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Paged]:
    """Serve a federation whose contributions wait for the worker, and its page."""
    torch.set_num_threads(1)
    with running(founded(tmp_path, policy=WAITS)) as own, paged(own) as shown:
        control = ControlServer(own.folder.control, lambda _: own.desk)
        yield shown
        control.close()


def folder_of(own: Running, leaf: int) -> Path:
    """Return where the pictures of one contribution lie."""
    return own.folder.data / "evidence" / str(leaf)


def names(folder: Path) -> set[str]:
    """Return what lies there."""
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def images(text: str) -> list[tuple[str, str]]:
    """Return address and alternative text of each picture of a page."""
    return re.findall(r'<img src="(/operator/[^"]+)" alt="([^"]+)"', text)


def test_what_the_worker_puts_into_quarantine_is_drawn_for_the_operator_alone(
    page,
):
    """A false probe: its own figure, its why, and six pictures, until its owner withdraws."""
    member, lease, leaf = contribute(page.own, "anna", is_true=False)
    path = f"/operator/contributions/{leaf}"
    before = page.operator().get(path)

    Worker(page.own.folder.root, "cpu").once()
    operator = page.operator()
    text = operator.get(path)
    found = images(text)
    answers = [operator.client.get(src) for src, _ in found]

    assert "Not drawn yet" not in before  # it was pending
    assert "a probe has cosine" in text
    assert "neutral prompts, on the base" in text
    assert len(found) == 6
    assert found[0][1] == "“a photo of anna-k7”, the base alone"
    assert found[-1][1] == "“a photo of a house by the sea”, with it"
    for answer in answers:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert answer.headers["cache-control"] == "no-store"
        with Image.open(io.BytesIO(answer.content)) as image:
            assert (image.size, image.info) == ((16, 16), {})
    for src, _ in found:
        assert page.get(src).status_code == 401
    kept = folder_of(page.own, leaf)
    assert names(kept) == ALONE
    assert {stat.S_IMODE(each.stat().st_mode) for each in kept.iterdir()} == {0o600}
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert operator.client.get(f"{path}/pictures/..%2f..%2fstate.db.png").status_code == 404
    assert operator.client.get(f"{path}/pictures/trigger-without.png").status_code == 404

    member.withdraw(lease, leaf)

    assert not kept.exists()
    assert operator.client.get(found[0][0]).status_code == 404
    assert images(operator.get(path)) == []


def test_beside_a_release_each_prompt_has_three_and_only_its_doing_differs(page):
    """Equal noise: the base is the base whatever waits, and what is released shows in `without`."""
    own = page.own
    _, _, first = contribute(own, "anna", size=0.05)
    Worker(own.folder.root, "cpu").once()
    own.release()
    _, _, one = contribute(own, "bert", is_true=False, size=0.05)
    _, _, two = contribute(own, "carl", is_true=False, size=0.05)

    Worker(own.folder.root, "cpu").once()
    data = {
        (leaf, name): (folder_of(own, leaf) / name).read_bytes()
        for leaf in (one, two)
        for name in names(folder_of(own, leaf))
    }

    assert names(folder_of(own, first)) == set()  # accepted: nothing waits
    assert names(folder_of(own, one)) == names(folder_of(own, two)) == BESIDE
    for row in ("person", "place"):
        assert data[one, f"{row}-base.png"] == data[two, f"{row}-base.png"]
        assert data[one, f"{row}-without.png"] == data[two, f"{row}-without.png"]
        pictures = {data[one, f"{row}-{column}.png"] for column in ("base", "without", "with")}
        assert len(pictures) == 3
        assert data[one, f"{row}-with.png"] != data[two, f"{row}-with.png"]
    alts = [alt for _, alt in images(page.operator().get(f"/operator/contributions/{one}"))]
    assert "“a photo of bert-k7”, release 1 without it" in alts
    assert "“a photo of bert-k7”, release 1 with it" in alts
    assert Worker(own.folder.root, "cpu").once() == []
    listed = own.desk.ask("to_measure", {})["contributions"]
    assert {each["leaf"]: each["pictured"] for each in listed} == {
        first: False,
        one: True,
        two: True,
    }


def test_a_rejected_one_loses_its_pictures_and_no_backup_holds_any(page, tmp_path):
    """They are evidence for a decision, and no part of the record."""
    _, _, leaf = contribute(page.own, "anna", is_true=False)
    Worker(page.own.folder.root, "cpu").once()
    kept = folder_of(page.own, leaf)

    back_up(
        page.own.folder, tmp_path / "copy", fs=FastFs(), clock=page.own.clock, say=lambda _: None
    )
    page.own.desk.ask("reject", {"leaf": leaf, "why": "a test"})

    assert not list((tmp_path / "copy").rglob("*.png"))
    assert not kept.exists()
    assert images(page.operator().get(f"/operator/contributions/{leaf}")) == []


def test_with_the_switch_off_nothing_is_drawn_and_the_page_says_so(page):
    """`pictures = false` in [admission]: numbers alone."""
    own = page.own
    own.house.settings = replace(own.house.settings, admission=replace(WAITS, pictures=False))
    _, _, leaf = contribute(own, "anna", is_true=False)

    Worker(own.folder.root, "cpu").once()
    text = page.operator().get(f"/operator/contributions/{leaf}")

    assert "a probe has cosine" in text
    assert "pictures = false in [admission]" in text
    assert not folder_of(own, leaf).exists()
    good = {"trigger-base": base64.b64encode(GOOD).decode()}
    own.desk.ask("evidence", {"leaf": leaf, "release": 0, "pictures": good})
    assert not folder_of(own, leaf).exists()  # whoever sends some


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("trigger-base", with_text(), VerificationFailed),
        ("trigger-base", b"\x89PNG\r\n\x1a\n" + bytes(MOST_BYTES), VerificationFailed),
        ("trigger-base", b"<svg/>", VerificationFailed),
        ("trigger-base", b"", InputError),
        ("../../state", GOOD, InputError),
        ("trigger-base.png", GOOD, InputError),
    ],
    ids=["metadata", "too large", "no picture", "empty", "a path", "another name"],
)
def test_only_small_pictures_of_pixels_and_of_known_names_are_kept(page, name, data, error):
    """Who speaks for the worker sends what it likes."""
    _, _, leaf = contribute(page.own, "anna", is_true=False)
    pictures = {name: base64.b64encode(data).decode()}

    with pytest.raises(error):
        page.own.desk.ask("evidence", {"leaf": leaf, "release": 0, "pictures": pictures})

    assert not (page.own.folder.data / "evidence").exists()


def test_what_a_kill_left_is_drawn_again_or_swept(page):
    """Half of a set is none; a temporary file goes; to what is gone nothing comes."""
    own = page.own
    member, lease, leaf = contribute(own, "anna", is_true=False)
    own.desk.ask(
        "evidence",
        {"leaf": leaf, "release": 0, "pictures": {"trigger-base": base64.b64encode(GOOD).decode()}},
    )
    kept = folder_of(own, leaf)
    (kept / ".abc.tmp").write_bytes(b"half")

    Worker(own.folder.root, "cpu").once()
    own.house.sweep()
    whole = names(kept)
    member.withdraw(lease, leaf)
    late = {"leaf": leaf, "release": 0, "pictures": {"trigger-base": _text(GOOD)}}
    said = own.desk.ask("evidence", late)

    assert whole == ALONE
    assert said == {"done": False}
    assert not kept.exists()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
