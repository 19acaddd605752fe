"""`orthofed client daemon` and a real coordinator: real processes and signals, tiny trainings.

What is decided is tested in test_daemon_heart.py; here it is carried out.
"""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.state import load

from .coordinator_process import Coordinator, run
from .owner_daemon import TRAINING, OwnerDaemon, client, queue
from .tiny_base import tiny_base
from .tiny_concept import write_images


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the folder with base, images and settings that all tests share."""
    folder = tmp_path_factory.mktemp("daemons")
    tiny_base(folder / "base")
    write_images(folder / "images", 6)
    (folder / "quick.toml").write_text(TRAINING)
    return folder


@pytest.fixture(scope="module")
def federation(place: Path) -> Iterator[Coordinator]:
    with Coordinator.found(place / "fed", place / "base", "--rank", "1") as running:
        yield running


@pytest.fixture
def home(federation: Coordinator, tmp_path: Path) -> Home:
    made = Home.at(tmp_path / "home")
    join(made, federation.invite(), url=None, patience_s=20)
    return made


def _contributions(federation: Coordinator) -> list[str]:
    """Return the concepts of all contributions in the ledger, with repetitions."""
    shown = run("coordinator", "contributions", str(federation.folder), "--json").stdout
    return sorted(row["concept"] for row in json.loads(shown)["contributions"])


def test_a_queue_of_two_is_taught_and_the_daemon_stops_cleanly(
    federation: Coordinator, home: Home, place: Path
) -> None:
    """Two concepts, one after the other, each once in the ledger; SIGTERM, exit 0, no socket."""
    with OwnerDaemon(home, queue(place, "wolf-a1", "bear-b2")) as daemon:
        daemon.until_done()
        shown = client(home, "status").stdout
        daemon.send(signal.SIGTERM)
        code = daemon.ended()

    assert code == 0
    assert "nothing to do, mode always" in shown
    for concept in ("wolf-a1", "bear-b2"):
        session = load(home.run(concept))
        assert session is not None
        assert session.phase == "receipted"
        assert _contributions(federation).count(concept) == 1
    assert not (home.folder / "daemon.sock").exists()
