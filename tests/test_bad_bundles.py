"""R18 and T16: over a hundred bundles that are not what was signed, made from one that is.

Each case changes one good pulled folder in one way (test_bad_servers.py: the server it came from);
none is accepted, and each refusal names the check that failed. The cases: bad_bundles.py.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orthofed.client.verify import verify_folder
from orthofed.core.errors import VerificationFailed

from .bad_bundles import CARD, CASES, FOLDER, GOOD, INFO, OTHER, PROOF, Folder
from .mirror import NOW_S
from .seeded import Bug


def write_out(folder: Folder, out: Path) -> Path:
    """Write a folder's files."""
    for name, data in folder.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return out


def test_there_are_enough_cases() -> None:
    """R18 asks for 90."""
    assert len(CASES) + len(LINKS) >= 90


@pytest.mark.parametrize(("change", "check"), CASES.values(), ids=list(CASES))
def test_a_bundle_that_is_not_what_was_signed_is_refused(
    change: Callable[[Folder], Folder], check: str, tmp_path: Path
) -> None:
    """One change; the refusal names the check, with exit code 4."""
    folder = write_out(change(FOLDER), tmp_path / "bundle")

    with pytest.raises(VerificationFailed) as caught:
        verify_folder(folder, now_s=NOW_S)

    assert caught.value.what.startswith(f"check failed: {check}: "), caught.value.what
    assert caught.value.exit_code == 4


def linked(name: str, target: str) -> Callable[[Path], object]:
    """Return a change that puts a link in the place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return change


def moved(folder: Path) -> None:
    """Let a whole folder of the release lie elsewhere, behind a link."""
    (folder / "lora").rename(folder.parent / "lora")
    (folder / "lora").symlink_to(folder.parent / "lora")


LINKS: dict[str, Callable[[Path], object]] = {
    "a link to a file of the folder": linked(CARD, INFO),
    "a link that leads out": linked(INFO, "/etc/passwd"),
    "a link to nothing": linked(CARD, "nowhere"),
    "a link among the proofs": linked(PROOF, "../card.md"),
    "a folder behind a link": moved,
    "a pipe": lambda folder: os.mkfifo(folder / "pipe"),
    "an empty folder": lambda folder: (folder / "empty").mkdir(),
    "a folder in the place of a file": lambda folder: (
        (folder / CARD).unlink(),
        (folder / CARD).mkdir(),
    ),
}


@pytest.mark.parametrize("change", LINKS.values(), ids=list(LINKS))
def test_what_is_no_plain_file_is_refused(change: Callable[[Path], object], tmp_path: Path) -> None:
    """T10: links, pipes, folders where files belong."""
    folder = write_out(FOLDER, tmp_path / "bundle")
    change(folder)

    with pytest.raises(VerificationFailed, match="check failed: folder: "):
        verify_folder(folder, now_s=NOW_S)


def test_a_whole_bundle_of_another_federation_is_refused_by_the_log_id(tmp_path: Path) -> None:
    """T16: everything in it is true, of another ledger than the one that was pinned."""
    folder = write_out(OTHER, tmp_path / "bundle")
    verify_folder(folder, now_s=NOW_S)

    with pytest.raises(VerificationFailed, match="check failed: log id"):
        verify_folder(folder, log=GOOD.log_id, now_s=NOW_S)


def test_age_and_expiry_are_judged_by_the_day_that_is_asked_about(tmp_path: Path) -> None:
    """A folder keeps its integrity; whether its head is young enough is the reader's word."""
    folder = write_out(FOLDER, tmp_path / "bundle")
    year_s, day_s = 365 * 86_400, 86_400

    verify_folder(folder, now_s=NOW_S + year_s)
    verify_folder(folder, now_s=NOW_S + day_s, max_age_s=day_s)
    with pytest.raises(VerificationFailed, match="check failed: freeze"):
        verify_folder(folder, now_s=NOW_S + day_s + 1, max_age_s=day_s)
    with pytest.raises(VerificationFailed, match="check failed: expiry"):
        verify_folder(folder, now_s=NOW_S + year_s + 1)


@pytest.mark.parametrize(
    ("bug", "case"),
    [
        ("unknown-signer-counted", "a manifest signed by a thief"),
        ("extra-file-ignored", "an extra file"),
    ],
)
def test_a_seeded_bug_of_the_verifier_is_caught(bug: str, case: str, tmp_path: Path) -> None:
    """R18's two: with the bug in place the bundle passes, so the case above would turn red."""
    folder = write_out(CASES[case][0](FOLDER), tmp_path / "bundle")
    with Bug.named(bug).everywhere():
        from orthofed.client import verify  # noqa: PLC0415  # the patched one

        verify.verify_folder(folder, now_s=NOW_S)
