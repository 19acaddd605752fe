"""Every command of docs/daemon.md, and its settings, as a reader would type them."""

import re
import subprocess
import sys
from pathlib import Path

from orthofed.client.home import Home
from orthofed.client.join import join

from .doc_runner import blocks, console
from .owner_daemon import TRAINING
from .serving import founded, running
from .tiny_concept import write_images

PAGE = Path(__file__).parents[1] / "docs" / "daemon.md"
CHANGED = {
    'mode = "auto"': 'mode = "always"\nmin_free_disk_gb = 0',
    'preset = "sd15-person"': 'config = "quick.toml"',
}


def test_the_page_leads_from_a_file_of_settings_to_a_clean_end(tmp_path: Path) -> None:
    """A daemon in the background, spoken to as the page does; it ends with its concept packed.

    The page's settings at any hour, with a quick training on the tiny base; what it packed waits
    for the yes that the page's last command gives.
    """
    (settings,) = (block.text for block in blocks(PAGE) if block.kind == "toml")
    for said, ours in CHANGED.items():
        assert said in settings
        settings = settings.replace(said, ours)
    (tmp_path / "daemon.toml").write_text(settings)
    (tmp_path / "quick.toml").write_text(TRAINING)
    lines = [command.typed for block in console(PAGE) for command in block]
    ready = "daemon=$!; until [ -S home/daemon.sock ]; do sleep 0.2; done"
    script = ["set -euo pipefail"]
    for line in lines:
        script += ["wait $daemon"] if " approve " in line else []
        script += [line, ready] if line.endswith("&") else [line]
    text = re.sub(
        r"orthofed client ([a-z-]+)", r"orthofed client \1 --home home", "\n".join(script)
    )
    with running(founded(tmp_path)) as fed:
        (tmp_path / "assets").mkdir()
        (tmp_path / "assets" / "pocket-base").symlink_to(tmp_path / "base")
        write_images(tmp_path / "assets" / "pocket-concepts" / "anna-k7", 6)
        join(Home.at(tmp_path / "home"), fed.invite(), url=None, patience_s=20)

        done = subprocess.run(
            ["bash", "-c", text],
            cwd=tmp_path,
            env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    assert len(lines) == 10
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    assert "good: 1 concepts" in done.stdout
    assert "paused by you until" in done.stdout
    assert re.search(r"mode always until 20\d\d-", done.stdout)
    assert "anna-k7 is approved: the daemon, or client train, may send it" in done.stdout
