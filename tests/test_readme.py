"""The quick starts of README.md are run, block after block, as a reader would type them."""

import subprocess
from pathlib import Path

from .doc_runner import blocks, console, environment, free_port

ROOT = Path(__file__).parents[1]


def _quick_start() -> list[str]:
    """Return the commands of the console blocks below a quick start heading.

    The one above them is `make demo`, which test_demo.py types.
    """
    return [command.typed for block in console(ROOT / "README.md")[1:] for command in block]


def test_the_quick_starts_lead_from_a_base_to_a_picture(tmp_path: Path) -> None:
    """Operator, data owner, consumer: the commands as printed, but with the tutorials' settings.

    A free port stands for 7443, so that two runs do not meet.
    """
    port = free_port()
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    tutorial = blocks(ROOT / "docs" / "tutorials" / "operator.md")
    (quick,) = (block.text for block in tutorial if block.order == "file quick.toml")
    (tmp_path / "quick.toml").write_text(quick, "utf-8")
    lines = [
        line.replace("7443", port).replace("--yes", "--yes --config quick.toml")
        for line in _quick_start()
    ]
    waits = "until [ -S fed/data/control.sock ]; do sleep 0.2; done"
    script = "\n".join(
        ["set -euo pipefail", "trap 'kill $(jobs -p)' EXIT"]
        + [part for line in lines for part in ([line, waits] if line.endswith("&") else [line])]
    )
    assert sum("orthofed" in line for line in lines) >= 10

    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )

    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "grid.png").stat().st_size > 1000
