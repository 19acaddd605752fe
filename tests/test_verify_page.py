"""Every command of docs/verify.md, block after block, as a reader would type it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

from orthofed.client.audit import Verdict

from .doc_runner import console
from .serving import founded, running
from .single_file import write_single_file

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "verify.md"


def commands() -> list[str]:
    """Return what the console blocks say to type."""
    return [command.typed for block in console(PAGE) for command in block]


def test_the_commands_of_the_page_run_and_say_yes(tmp_path: Path) -> None:
    """A release of two concepts: fetched, verified, rebuilt, and three kinds of file audited.

    The one file is made of the checkpoint where the page's reader would have got it from somebody.
    """
    with running(founded(tmp_path)) as coordinator:
        for seed, name in enumerate(("anna", "bert")):
            member = coordinator.member()
            member.contribute(member.pack(member.lease(name, (f"{name}-k7",)), seed=seed))
        coordinator.release(614)
        (tmp_path / "link.txt").write_text(coordinator.desk.link())
        bin_ = Path(sys.executable).parent

        def run(*lines: str) -> str:
            script = "\n".join(["set -euo pipefail", *lines])
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=tmp_path,
                env={"PATH": f"{bin_}:/usr/bin:/bin", "HOME": str(tmp_path)},
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
            return done.stdout

        told = run(commands()[0])
        checkpoint = tmp_path / "release-1" / "checkpoint"
        write_single_file(checkpoint, tmp_path / "merged.safetensors", each=1, blocks=2)
        told += run(*commands()[1:])

    assert len(commands()) == 6
    assert "rebuilt:  every byte follows from 2 contributions" in told
    assert told.count("every part of it is a contribution's, as the release says") == 3


def test_the_page_names_every_verdict() -> None:
    """A verdict that the table leaves out is one that nobody can look up."""
    rows = re.findall(r"^\| ([a-z ]+) \|", PAGE.read_text("utf-8"), re.MULTILINE)

    assert set(rows) - {"verdict"} == set(get_args(Verdict))
