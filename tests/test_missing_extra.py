"""A command whose packages are not installed says which extra brings them, and no traceback.

The package is hidden from the interpreter as an install without it would: its import fails.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orthofed.client import daemon_job
from orthofed.client.missing_extra import missing_extra

ROOT = Path(__file__).parent.parent
BASE = ROOT / "assets" / "pocket-base"
PROGRAM = """
import sys
sys.modules[{module!r}] = None
sys.argv = ["orthofed", *{words!r}]
from orthofed.__main__ import main
main()
"""


def run(module: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = PROGRAM.format(module=module, words=words)
    env = {**os.environ, "HOME": str(cwd)}
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=cwd,
        env=env,
        check=False,
        capture_output=True,
        text=True,
    )


def test_drawing_without_torch_says_what_to_install(tmp_path: Path) -> None:
    words = ["sample", "release-1", "--prompt", "a cat", "-o", "grid.png"]
    (tmp_path / "release-1").mkdir()

    done = run("torch", *words, cwd=tmp_path)
    as_json = run("torch", *words, "--json", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stderr == (
        "error: the package torch is not installed\n"
        "why: this needs the extra client, which a plain install leaves out\n"
        'fix: run pip install "orthofed[client]"\n'
    )
    assert json.loads(as_json.stdout)["error"]["code"] == "extra-missing"


def test_a_page_without_its_framework_says_what_to_install(tmp_path: Path) -> None:
    words = ["coordinator", "init", "fed", "--base", str(BASE), "--rank", "8", "--name", "peeps"]
    run("jinja2", *words, "--address", "127.0.0.1:7443", cwd=tmp_path)

    done = run(
        "jinja2",
        *["coordinator", "serve", "fed", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"],
        cwd=tmp_path,
    )

    assert done.returncode == 2
    assert 'fix: run pip install "orthofed[web]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_daemons_job_says_it_as_its_end() -> None:
    """It is what `client status` shows of the concept, instead of a process that died."""

    def work() -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    assert daemon_job._outcome(work) == {
        "code": "extra-missing",
        "what": "the package torch is not installed",
        "fix": 'run pip install "orthofed[client]"',
    }


def test_a_module_is_named_by_its_package() -> None:
    error = missing_extra(ModuleNotFoundError("No module named 'PIL'", name="PIL.Image"))

    assert error.what == "the package pillow is not installed"


@pytest.mark.parametrize("name", ["orthofed.client.nowhere", "peft", "json2", None])
def test_what_no_extra_of_a_user_brings_is_a_bug_and_stays_one(name: str | None) -> None:
    error = ModuleNotFoundError(f"No module named {name!r}", name=name)

    with pytest.raises(ModuleNotFoundError) as raised:
        missing_extra(error)

    assert raised.value is error
