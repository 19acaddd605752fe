"""Every command of docs/pull.md's console blocks, as a reader would type it."""

import subprocess
import sys
from pathlib import Path

from .doc_runner import console
from .serving import founded, running

PAGE = Path(__file__).parents[1] / "docs" / "pull.md"


def test_the_commands_of_the_page_run(tmp_path: Path) -> None:
    """A release of one concept: pulled from the coordinator, and published for a web server."""
    lines = [command.typed for block in console(PAGE) for command in block]
    with running(founded(tmp_path)) as coordinator:
        member = coordinator.member()
        member.contribute(member.pack(member.lease("anna", ("anna-k7",))))
        coordinator.release()
        (tmp_path / "link.txt").write_text(coordinator.desk.link())
        done = subprocess.run(
            ["bash", "-c", "\n".join(["set -euo pipefail", *lines])],
            cwd=tmp_path,
            env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    assert "release 1 in release-1" in done.stdout
    assert f"https://HOST/PATH#{coordinator.desk.link().split('/')[3][:64]}" in done.stdout
    assert (tmp_path / "www" / "head.json").is_file()
