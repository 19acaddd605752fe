"""A coordinator that ended properly starts on its own database, and on no other."""

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from orthofed.coordinator.folder import DataFolder
from orthofed.core.errors import OrthoFedError, VerificationFailed

from .coordinator_process import COMMAND, Coordinator, run, wide_base
from .serving import founded, running


@pytest.fixture
def ended(tmp_path: Path) -> Coordinator:
    """Serve a federation once, and end it."""
    with Coordinator.found(tmp_path / "fed", wide_base(tmp_path / "base")) as found:
        found.stop()
    return found


def change(folder: Path) -> None:
    """Write into a row what no coordinator would."""
    with closing(sqlite3.connect(DataFolder(folder).database)) as db, db:
        db.execute("UPDATE slot SET client = ? WHERE id = 0", ("somebody",))


def test_a_database_that_somebody_changed_is_not_served(ended: Coordinator) -> None:
    """Exit code 4, what to do, and nothing touched; by the operator's word it starts."""
    change(ended.folder)
    place = DataFolder(ended.folder)
    before = place.database.read_bytes()

    for _ in range(2):
        said = subprocess.run(
            [*COMMAND, "coordinator", "serve", str(ended.folder)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,  # it served
        )
        assert said.returncode == 4
        assert "is not what it was when the coordinator ended" in said.stderr
        assert "orthofed doctor" in said.stderr
    assert place.database.read_bytes() == before
    place.database_sum.unlink()
    with ended:
        ended.start()
        assert ended.invite().startswith("ofi1:")


def test_commands_beside_a_stopped_coordinator_are_no_strangers(ended: Coordinator) -> None:
    """`fork` opens the database itself; the next start and the doctor find nothing."""
    run("coordinator", "fork", str(ended.folder), "--yes")
    run("doctor", str(ended.folder))

    with ended:
        ended.start()
        assert ended.invite().startswith("ofi1:")


def test_no_other_command_takes_a_changed_database_for_its_own(ended: Coordinator) -> None:
    """`status`, `invite` and the rest open it too: each is refused, and so is serving after it."""
    place = DataFolder(ended.folder)
    change(ended.folder)
    before = place.database_sum.read_bytes()

    for command in ("status", "link", "serve"):
        said = run("coordinator", command, str(ended.folder), check=False)
        assert said.returncode == 4, command
        assert "is not what it was when the coordinator ended" in said.stderr
    assert place.database_sum.read_bytes() == before


def test_a_start_that_is_refused_leaves_the_sum_that_the_next_one_checks(tmp_path: Path) -> None:
    """Without its key, or its mark, nothing runs; what is changed meanwhile is still noticed."""
    folder = founded(tmp_path)
    with running(folder):
        pass
    away = tmp_path / "away"
    for path in (folder.keys / "ledger.pem", folder.mark_file()):
        shutil.move(path, away)
        if path.parent == folder.root:
            path.write_text("{")
        with pytest.raises(OrthoFedError), running(folder):
            pass
        assert folder.database_sum.is_file(), path.name
        shutil.move(away, path)
    change(folder.root)

    with pytest.raises(VerificationFailed, match="is not what it was"), running(folder):
        pass
