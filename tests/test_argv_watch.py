"""The search of all arguments finds what it is made for: an invite, and a key out of a file."""

import subprocess
import sys
from pathlib import Path

import pytest

from .argv_watch import ArgvWatch, keys_below

INVITE = "ofi1:" + "A" * 60


@pytest.mark.parametrize("way", ["an invite", "a master key", "a line of a key file", "nothing"])
def test_a_secret_among_the_arguments_is_found(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given to a process that does nothing; the report names the test and not the secret."""
    (tmp_path / "master.key").write_text("5" * 64)
    pem = ["-----BEGIN PRIVATE KEY-----", "MC4CAQAwBQYDK2VwBCIEI" + "x" * 43, "-----END"]
    (tmp_path / "ledger.pem").write_text("\n".join(pem))
    given = {"an invite": INVITE, "a master key": f"--key={'5' * 64}", "nothing": "6" * 64}
    watch = ArgvWatch()
    watch.begin()
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/test_argv_watch.py::planted (call)")

    subprocess.run([sys.executable, "-c", "0", given.get(way, pem[1])], check=True)

    leaks = watch.leaks(keys_below(tmp_path), but=())
    assert leaks == ([] if way == "nothing" else ["tests/test_argv_watch.py::planted"])
