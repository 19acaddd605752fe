"""T15: what cannot be seen in weights can be taken out to the last byte."""

import pytest

from orthofed.coordinator import publications, verdicts

from .serving import Running, founded, running
from .test_admission import contributed

DESCRIBED = ("info.json", "card.md")
"""What tells which release it is, and who is left out."""


@pytest.fixture
def coordinator(tmp_path):
    with running(founded(tmp_path)) as started:
        yield started


def files(coordinator: Running, n: int) -> dict[str, bytes]:
    """Return every file of a release but those that name it."""
    folder = coordinator.folder.releases / str(n)
    paths = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.relative_to(folder).as_posix().replace(f"-r{n:04}", ""): path for path in paths}
    return {
        name: path.read_bytes()
        for name, path in names.items()
        if name not in (*DESCRIBED, "manifest.json")
    }


def test_a_release_without_it_is_that_of_a_run_that_never_had_it(coordinator):
    """A backdoor in slot k, released, then found: rejected, and every tensor file is as before."""
    contributed(coordinator)
    contributed(coordinator, "bert")
    coordinator.release()
    _, _, leaf = contributed(coordinator, "evil")
    coordinator.release()

    coordinator.desk.ask("reject", {"leaf": leaf, "why": "it draws a secret mark"})
    coordinator.release()

    never, had, without = (files(coordinator, n) for n in (1, 2, 3))
    assert without == never
    assert had != never
    plan = coordinator.house.store.run(publications.newest).plan
    assert plan.left_out == ((leaf, "rejected"),)


def test_an_approval_brings_back_the_very_bytes(coordinator):
    """Put into quarantine by later numbers: out of release 2, and in again in release 3."""
    contributed(coordinator)
    _, _, leaf = contributed(coordinator, "bert")
    coordinator.release()
    coordinator.house.board.run(
        lambda turn: verdicts.say(
            turn, coordinator.house, leaf, "quarantined", code="interference", why="x"
        )
    )
    coordinator.release()
    coordinator.desk.ask("approve", {"leaf": leaf})
    coordinator.release()

    assert files(coordinator, 3) == files(coordinator, 1)
    assert files(coordinator, 2) != files(coordinator, 1)
