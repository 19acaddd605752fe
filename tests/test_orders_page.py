"""Every command of docs/orders.md's console blocks, as an operator would type it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from .doc_runner import console
from .serving import founded, running

PAGE = Path(__file__).parents[1] / "docs" / "orders.md"
SHELL = f'orthofed() {{ "{sys.executable}" -P -m orthofed "$@"; }}; set -euo pipefail'


def blocks() -> list[str]:
    return ["\n".join(command.typed for command in block) for block in console(PAGE)]


def test_the_commands_of_the_page_run_in_their_order(tmp_path: Path) -> None:
    """A member joins, is ordered to train, does so, is scored, sends figures, is asked to go."""
    folder = founded(tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def types(block: str) -> str:
        done = subprocess.run(
            ["bash", "-c", f"{SHELL}\n{block}"],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, (block, done.stderr)
        return done.stdout

    ask, cancel, score, look, correct, withdraw = blocks()
    with running(folder) as coordinator:
        ana = coordinator.member()
        (tmp_path / "member.txt").write_text(ana.key.public_hex[:8])
    asked, cancelled = types(ask), types(cancel)
    with running(folder) as coordinator:
        ana.link.channel.close()
        ana.link = type(ana.link)(ana.invite, address=f"127.0.0.1:{coordinator.server.port}")
        ana.contribute(ana.pack(ana.lease("anna", ("anna-k7",))))
        coordinator.release()
    scored = types(score)
    with running(folder) as coordinator:
        ana.link.channel.close()
        ana.link = type(ana.link)(ana.invite, address=f"127.0.0.1:{coordinator.server.port}")
        ana.score("anna", 1, 90_000, 50_000, 70_000)
    looked, again, left = types(look), types(correct), types(withdraw)
    ana.link.close()
    listed = types("orthofed coordinator orders fed")

    assert asked.count("open: train anna") == 2
    assert "cancelled: train bert" in cancelled
    assert "open: score anna, release 1" in scored
    assert re.search(r"^anna +0\.500 .*SUFFERS$", looked, re.MULTILINE)
    assert "1 under 70 %, 0 not measured" in looked
    assert json.loads(looked.splitlines()[-1])["concepts"][0]["suffers"]
    assert "open: train anna, release 1" in again
    assert "open: withdraw anna" in left
    assert re.search(r"done by leaf \d+: train anna; ", listed)
    assert re.search(r"done by leaf \d+: score anna, release 1; ", listed)
