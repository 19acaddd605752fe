"""T15: exact withdrawal: two copies of one federation, one of which never had the contribution.

Backs: "After a withdrawal the next release is byte-identical to one that never had it." What may
differ is what formats.md 13, item 10, says: the number, the list of withdrawals, and places in the
ledger; and card.md lists the withdrawals.
"""

import json
import re
import shutil
from pathlib import Path

from orthofed.client.session import Session
from orthofed.coordinator import slot_rows
from orthofed.coordinator.folder import DataFolder
from orthofed.core.document import parse
from orthofed.core.release import ReleaseManifest

from ..owner import Owner
from ..serving import Running, founded, running

LAMBDA = 614


def joined(coordinator: Running, path: Path) -> Owner:
    return Owner.joined(path, coordinator.invite())


def phase(coordinator: Running, session: Session) -> str:
    return coordinator.house.store.run(slot_rows.every)[session.slot].phase


def blob_of(coordinator: Running, session: Session) -> Path:
    return coordinator.folder.blob(session.blob)


def contents(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


def infos(files: dict[str, bytes]) -> dict[str, object]:
    """Return info.json without what formats.md 13, item 10, lets differ."""
    info = json.loads(files["info.json"])
    del info["withdrawn"]
    for concept in info["concepts"]:
        del concept["leaf"], concept["client"]  # the control's owners have keys of their own
    return info


def card(files: dict[str, bytes]) -> str:
    """Return card.md without its last lines, the withdrawals so far, and without keys."""
    text = files["card.md"].decode().partition("Withdrawn so far")[0].rstrip()
    return re.sub(r"`[0-9a-f]{16}`", "`key`", text)


def test_the_next_release_is_byte_identical_to_one_that_never_had_it(tmp_path):
    """Two copies of one federation: in one bert comes, is released and leaves; in the other never.

    Same spec, keys, slots and fences: in the control bert's lease is given back unused.
    """
    folder = founded(tmp_path / "had")
    shutil.copytree(tmp_path / "had", tmp_path / "never")
    toml = tmp_path / "never" / "fed" / "coordinator.toml"
    toml.write_text(toml.read_text().replace(str(tmp_path / "had"), str(tmp_path / "never")))

    with running(folder) as had:
        owners = [joined(had, tmp_path / f"had-{name}") for name in "abc"]
        owners[0].contribute("anna", seed=1)
        session = owners[1].contribute("bert", seed=2)
        owners[2].contribute("carl", seed=3)
        had.release(LAMBDA)
        with_bert = contents(had.folder.releases / "1")
        done = owners[1].withdraw("bert")
        kept = blob_of(had, session).exists()
        had.release(LAMBDA)
        after = contents(had.folder.releases / "2")
        gone = not blob_of(had, session).exists()
        freed = phase(had, session)
        manifest = ReleaseManifest.from_document(parse(after["manifest.json"], kind="release"))
    with running(DataFolder.open(tmp_path / "never" / "fed")) as never:
        owners = [joined(never, tmp_path / f"never-{name}") for name in "abc"]
        owners[0].contribute("anna", seed=1)
        lease = owners[1].lease("bert")
        owners[2].contribute("carl", seed=3)
        owners[1].give_back(lease)
        never.release(LAMBDA + 1)  # so that the next one has the same number
        never.release(LAMBDA)
        control = contents(never.folder.releases / "2")

    differ = {n for n in after.keys() | control.keys() if after.get(n) != control.get(n)}
    assert differ <= {"info.json", "card.md", "manifest.json"}
    assert "info.json" in differ
    assert infos(after) == infos(control)
    assert card(after) == card(control)
    withdrawn = [{"leaf": done.contribution.leaf, "slot": session.slot}]
    assert json.loads(after["info.json"])["withdrawn"] == withdrawn
    assert json.loads(control["info.json"])["withdrawn"] == []
    assert manifest.left_out == ((done.contribution.leaf, "withdrawn"),)
    assert "Copies already downloaded remain." in after["card.md"].decode()
    assert any("bert" in name for name in with_bert)
    assert not any(b"bert" in data for data in after.values())
    assert (kept, gone, freed) == (True, True, "free")


def test_the_test_of_bytes_sees_a_contribution_that_stayed(tmp_path):
    """The guard itself: with bert still in, the comparison above finds it in many files."""
    with running(founded(tmp_path)) as coordinator:
        for number, name in enumerate(("anna", "bert")):
            owner = joined(coordinator, tmp_path / name)
            owner.contribute(name, seed=number)
            coordinator.release(LAMBDA)
        first, second = (contents(coordinator.folder.releases / n) for n in "12")

    differ = {name for name in first if first[name] != second.get(name)}
    assert any(name.startswith("checkpoint/") for name in differ)
