"""What both supervisors are made of, with real processes but without Flower."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orthofed.core.errors import InputError
from orthofed.fleet.account import refuse_the_owners_account
from orthofed.fleet.child import Child
from orthofed.fleet.flower_tools import SWITCHES, FlowerTools
from orthofed.fleet.only_one import only_one

from .fleet_processes import NEEDS_FLOWER

_SUPERVISOR = """
import os, sys, time
from pathlib import Path
from orthofed.fleet.child import Child
child = Child("sleeper", ["/bin/sleep", "600"], environment={}, folder=Path(sys.argv[1]))
child.start()
print(child.pid, flush=True)
time.sleep(600)
"""


def _is_there(pid: int) -> bool:
    """Tell whether a process runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _gone(pid: int, *, within_s: float = 10.0) -> bool:
    end_s = time.monotonic() + within_s
    while _is_there(pid):
        if time.monotonic() > end_s:
            return False
        time.sleep(0.05)
    return True


def _ended(child: Child) -> int:
    while (code := child.ended()) is None:
        time.sleep(0.02)
    return code


def test_a_child_dies_with_its_supervisor_however_that_one_dies(tmp_path: Path) -> None:
    """SIGKILL runs no handler: the kernel ends the child."""
    command = [sys.executable, "-P", "-c", _SUPERVISOR, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        assert _is_there(pid)

        supervisor.kill()

    assert _gone(pid)


def test_what_a_child_started_dies_when_the_child_is_gone(tmp_path: Path) -> None:
    """A ServerApp outlives its SuperExec otherwise."""
    script = "sleep 600 & echo $!; exit 3"
    child = Child("parent", ["/bin/sh", "-c", script], environment={}, folder=tmp_path)
    child.start()

    code = _ended(child)

    assert code == 3
    log = tmp_path / "parent.log"
    while not log.exists() or not log.read_text().strip():
        time.sleep(0.02)
    assert _gone(int(log.read_text()))


def test_a_child_gets_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T27: a token in the operator's shell does not reach Flower; the switches do."""
    monkeypatch.setenv("HF_TOKEN", "secret")
    tools = FlowerTools(tmp_path, tmp_path)
    child = Child("env", ["/usr/bin/env"], environment=tools.environment(), folder=tmp_path)
    child.start()
    assert _ended(child) == 0

    log = tmp_path / "env.log"
    while not log.exists() or "RAY_USAGE" not in log.read_text():
        time.sleep(0.05)
    names = {line.partition("=")[0] for line in log.read_text().splitlines()}

    assert set(SWITCHES) <= names
    assert names <= {*tools.environment(), "LC_CTYPE"}


def test_a_log_stays_small_whatever_the_child_says(tmp_path: Path) -> None:
    """9 MB of output leave at most 4 MB of files."""
    script = f"import sys\nfor n in range(90_000): print('{'x' * 98}')"
    child = Child("loud", [sys.executable, "-c", script], environment={}, folder=tmp_path)
    child.start()
    assert _ended(child) == 0
    sizes: list[int] = []
    while len(sizes) < 4 or sum(sizes) < 3_000_000:
        time.sleep(0.05)
        sizes = [path.stat().st_size for path in tmp_path.glob("loud.log*")]
    time.sleep(0.5)

    sizes = [path.stat().st_size for path in tmp_path.glob("loud.log*")]

    assert len(sizes) == 4
    assert sum(sizes) <= 4_010_000


def test_the_owners_account_is_refused_unless_it_is_asked_for(tmp_path: Path) -> None:
    """Delivered code reads what that account reads; of a missing socket the folder counts."""
    with pytest.raises(InputError, match="images and keys") as refused:
        refuse_the_owners_account(tmp_path / "orders.sock", holds="images and keys", allowed=False)
    refuse_the_owners_account(tmp_path / "orders.sock", holds="images and keys", allowed=True)

    assert refused.value.code == "owners-account"
    assert "--same-account" in refused.value.fix


def test_another_account_is_let_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The courier's, as its unit starts it."""
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 4_711)

    refuse_the_owners_account(tmp_path / "orders.sock", holds="images and keys", allowed=False)


def test_a_second_supervisor_of_one_folder_is_refused(tmp_path: Path) -> None:
    """Two would start two runs."""
    with only_one(tmp_path), pytest.raises(InputError, match="in use"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


_LINK = ("--superlink", "localhost:1", "--roots", "ca.pem")
_WITHOUT = """
import sys
sys.executable = "/nowhere/python"
sys.argv = ["orthofed", *sys.argv[1:]]
from orthofed.__main__ import _run
code = _run()
assert "flwr" not in sys.modules
sys.exit(code)
"""


@pytest.mark.parametrize(
    "command",
    [
        ("coordinator", "fleet", "{}/fleet", "--bridge", "{}/bridge.sock"),
        ("client", "fleet", "{}/courier", "--orders", "{}/orders.sock", *_LINK),
    ],
    ids=["coordinator", "client"],
)
def test_without_flower_the_fleet_commands_say_how_to_install_it(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    """F15: exit code 1, the line to run, nothing made, and flwr never imported."""
    arguments = [part.format(tmp_path) for part in command]
    done = subprocess.run(
        [sys.executable, "-P", "-c", _WITHOUT, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1, done.stderr
    assert 'pip install "orthofed[flower]"' in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "module",
    ["__main__", "coordinator.daemon", "coordinator.fleet_shell", "client.fleet_shell"],
)
def test_nothing_but_the_bridge_and_the_courier_loads_flwr(module: str) -> None:
    """Seen from outside: help, the coordinator, the client, and both supervisors."""
    code = f"import sys, orthofed.{module}; sys.exit('flwr' in sys.modules)"

    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0


@NEEDS_FLOWER
def test_the_courier_loads_the_standard_library_and_flwr_only() -> None:
    """It may live in an environment that has nothing else of ours."""
    code = (
        "import sys, orthofed.client.flower;"
        "print(*(n for n in sys.modules if n.startswith('orthofed')))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["orthofed", "orthofed.client", "orthofed.client.flower"]


def test_a_leashed_program_that_lost_its_parent_at_the_start_ends(tmp_path: Path) -> None:
    """The parent may die between fork and the kernel's word."""
    code = "import orthofed.fleet.leash as leash; leash._main()"
    started = [sys.executable, "-P", "-c", code, "1", "/bin/sleep", "600"]

    done = subprocess.run(started, cwd=tmp_path, timeout=30, check=False)

    assert done.returncode == 1
