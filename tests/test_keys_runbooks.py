"""docs/keys.md: every command of every runbook, run in its order on one federation."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from orthofed.coordinator.control import ControlServer
from orthofed.coordinator.folder import DataFolder

from .doc_runner import console
from .owner import Owner
from .serving import Running, founded, running

SHELL = f'orthofed() {{ "{sys.executable}" -P -m orthofed "$@"; }}'
DOC = Path(__file__).parent.parent / "docs" / "keys.md"


def blocks() -> list[list[str]]:
    return [[command.typed for command in block] for block in console(DOC)]


@contextmanager
def served(folder: DataFolder, owner: Owner | None) -> Iterator[Running]:
    """Serve the folder, and answer the operator's commands; ``owner`` finds it at its new port."""
    with running(folder) as coordinator:
        control = ControlServer(folder.control, lambda _: coordinator.desk)
        if owner is not None:
            there = replace(owner.home.membership(), host_port=folder.address())
            facts = coordinator.house.facts
            owner.home.join(there, spec=facts.spec.to_bytes(), keyrings=facts.keyrings)
        try:
            yield coordinator
        finally:
            control.close()


def test_every_runbook_runs_and_ends_in_a_sound_federation(tmp_path):
    """Every runbook after the other; contributions and releases in between; the doctor at last.

    An owner's commands meet a coordinator that is served, the operator's are run beside a stopped
    one. Nothing that a command prints holds a private key, and no command line has one.
    """
    folder = founded(tmp_path, rank=2)  # a slot for each block
    (tmp_path / "safe").mkdir(mode=0o700)
    names = iter(f"wren-{n}" for n in range(100))

    def contribute() -> None:
        with running(folder) as coordinator:
            member, name = coordinator.member(), next(names)
            (tmp_path / "member.txt").write_text(member.key.public_hex[:8])
            receipt = member.contribute(member.pack(member.lease(name, (f"{name}-k7",))))
            (tmp_path / "leaf.txt").write_text(str(_index(receipt)))

    with served(folder, None) as coordinator:
        owner = Owner.joined(tmp_path / "share" / "orthofed", coordinator.invite())
        owner.contribute("anna")
    contribute()
    seen = list[str]()
    for block in blocks():
        with ExitStack() as stack:
            if any(line.startswith("orthofed client") for line in block):
                stack.enter_context(served(folder, owner))
            for line in block:
                done = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", f"{SHELL}; {line}"],
                    cwd=tmp_path,
                    env={**os.environ, "XDG_DATA_HOME": str(tmp_path / "share")},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, (line, done.stdout, done.stderr)
                seen += [line, done.stdout, done.stderr]
        contribute()

    files = [*(tmp_path / "safe").glob("*.pem"), *folder.keys.glob("*.pem")]
    secrets = [secret for secret in map(_seed, files) if secret]
    secrets += [each.secret.hex() for each in owner.masters.all()]
    assert len(blocks()) == 11
    assert owner.masters.newest().epoch == 2
    assert len(secrets) > 7
    assert not [secret for secret in secrets if any(secret in text for text in seen)]


def _index(receipt: bytes) -> int:
    return int(receipt.partition(b"\nindex ")[2].partition(b"\n")[0])


def _seed(path: Path) -> str:
    lines = path.read_text("ascii").splitlines()
    return lines[1] if "PRIVATE" in lines[0] else ""
