"""What `pip install` puts on a machine: the whole package, which runs without the clone."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OUTSIDE = {"tests", "benchmarks", "docs", "deploy"}
"""Top folders of the clone that are no part of the product's package."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds what a wheel of this tree holds.

    It is built from a copy, since setuptools keeps what it has built beside the sources.
    """
    place = tmp_path_factory.mktemp("wheel")
    for name in tracked():
        target = place / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place)]
    subprocess.run(
        [sys.executable, "-m", "pip", *words, str(place / "source")],
        check=True,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    (wheel,) = place.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(place / "site")
    return place / "site"


def tracked() -> list[str]:
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_every_module_template_and_asset_is_installed(installed: Path) -> None:
    """What git tracks in a folder of the package is there, and nothing of a test is."""
    held = {str(p.relative_to(installed / "orthofed")) for p in installed.glob("orthofed/**/*")}
    folders = {name.partition("/")[0] for name in tracked() if name.endswith(".py") and "/" in name}
    wanted = {
        name
        for name in tracked()
        if name.partition("/")[0] in folders - OUTSIDE
        and Path(name).name not in {"generate", ".gitignore"}  # the clone's own tools
    }

    assert sorted(wanted - held) == []
    assert sorted(name for name in held if name.partition("/")[0] in OUTSIDE) == []


def test_what_is_installed_founds_a_federation_on_its_own_base(
    installed: Path, tmp_path: Path
) -> None:
    """No file of the clone is read: the program runs from the unpacked wheel alone."""
    env = {**os.environ, "PYTHONPATH": str(installed), "HOME": str(tmp_path)}

    def run(*words: str) -> str:
        return subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=env,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    where = run("-c", "import orthofed; print(orthofed.__file__)").strip()
    base = installed / "orthofed" / "assets" / "pocket-base"
    program = "import sys; from orthofed.__main__ import main; sys.argv[0] = 'orthofed'; main()"
    words = ["coordinator", "init", "fed", "--base", str(base), "--rank", "8", "--name", "peeps"]
    run("-c", program, *words, "--address", "127.0.0.1:7443")

    assert Path(where).is_relative_to(installed)
    assert (tmp_path / "fed" / "public" / "spec.json").is_file()
