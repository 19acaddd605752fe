"""``orthofed client daemon`` and what an owner says to it: pause, resume, snooze, mode, leave.

Nothing slow is imported before a command runs, and in the daemon never: torch, numpy and gRPC are
loaded by the processes that it starts. Not here: what a wait means (daemon_waits.py), approving
(approve_command.py), `client status` (cli.py).
"""

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .command_line import HomeOption, Json

if TYPE_CHECKING:
    from .daemon_status import DaemonStatus
    from .home import Home

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SNOOZE: Final = "1h"


def daemon(
    config: Annotated[Path, typer.Option(help="The daemon's settings in TOML.")],
    home: HomeOption = None,
    check: Annotated[bool, typer.Option("--check", help="Read the settings and end.")] = False,
    as_json: Json = False,
) -> None:
    """Teach a queue of concepts, for months: when you are away, within the bounds you set.

    Ctrl-C or SIGTERM finishes the step, saves and ends; the same command goes on from there.
    """
    from .daemon_settings import DaemonSettings
    from .home import Home

    settings = DaemonSettings.read(config)
    if check:
        facts = {
            "schema": "orthofed.daemon-check/1",
            "concepts": [c.name for c in settings.concepts],
        }
        print(json.dumps(facts) if as_json else f"good: {len(settings.concepts)} concepts")
        return
    place = Home.at(home)
    place.membership()

    from .daemon_shell import DaemonShell

    def show(status: "DaemonStatus") -> None:
        if as_json:
            print(json.dumps({"schema": "orthofed.daemon/1", **status}), flush=True)

    with (
        place.daemon_lock() as folder,
        DaemonShell(place, settings, folder, on_status=show) as shell,
    ):
        shell.run()


def pause(
    for_: Annotated[
        str | None, typer.Option("--for", help="How long, such as 45m, 2h or 3d; else for good.")
    ] = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Stop working, free memory and GPU within 10 seconds, and keep what was learnt."""
    _quiet(home, {"do": "pause"}, for_, as_json=as_json)


def snooze(
    for_: Annotated[
        str | None, typer.Option("--for", help="How long, such as 20m; else one hour.")
    ] = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Stop working for one hour, as `pause --for 1h`."""
    _quiet(home, {"do": "pause"}, for_ or _SNOOZE, as_json=as_json)


def mode(
    chosen: Annotated[str, typer.Argument(metavar="always|auto|never", help="When it works.")],
    for_: Annotated[
        str | None, typer.Option("--for", help="How long, such as 2h; else until `resume`.")
    ] = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Work always, by the settings' bounds, or never, whatever mode the settings name.

    Also ends a pause. Too little disk and too much heat hold it back in every mode.
    """
    from ..core.errors import InputError
    from .daemon_settings import MODES

    if chosen not in MODES:
        raise InputError(
            f"the mode {chosen[:40]!r}",
            why=f"a mode is one of {', '.join(MODES)}",
            fix="write orthofed client mode always --for 2h, or resume for the settings' own mode",
            code="bad-mode",
        )
    _quiet(home, {"do": "mode", "mode": chosen}, for_, is_rest=chosen == "never", as_json=as_json)


def resume(home: HomeOption = None, as_json: Json = False) -> None:
    """Work again by the settings; what had failed is tried once more."""
    _show(_say(_at(home), {"do": "resume"}), as_json=as_json)


def finish_then_leave(home: HomeOption = None, as_json: Json = False) -> None:
    """Bring the running concept to its receipt, then end the daemon."""
    _show(_say(_at(home), {"do": "leave"}), as_json=as_json)


def running_daemon(home: "Home") -> "DaemonStatus | None":
    """Return what the home's daemon says of itself; None: none runs."""
    from .line_client import ask

    try:
        return ask(home.folder / "daemon.sock", {"v": 1, "do": "status"})["daemon"]
    except (OSError, KeyError):
        return None


def daemon_lines(status: "DaemonStatus") -> list[str]:
    """Return what `client status` shows of the daemon, line by line."""
    from .daemon_status import in_words

    wait = status["wait"]
    doing = f"working on {status['running']}" if status["running"] else "nothing to do"
    mode = status["mode"]
    if status["mode_until"]:
        mode += f" until {status['mode_until'][:16].replace('T', ' ')}"
    lines = [f"daemon   {in_words(wait) if wait else doing}, mode {mode}"]
    if status["leaving"]:
        lines[0] += ", ends after this concept"
    for task in status["queue"]:
        says = task["state"]
        if task["wait"]:
            says = in_words(task["wait"])
        elif task["steps"] and task["state"] == "running":
            says += f", step {task['step']}/{task['steps']}, {task['eta_s']:.0f} s left"
        lines.append(f"    {task['concept']}  {says}")
        if task["fix"] and task["state"] == "waiting":
            lines.append(f"        {task['fix']}")
    if status["not_seen"]:
        lines.append(f"    cannot be seen here: {', '.join(status['not_seen'])}")
    return lines


def _quiet(
    home: Path | None,
    request: dict[str, Any],
    for_: str | None,
    *,
    as_json: bool,
    is_rest: bool = True,
) -> None:
    """Say what becomes of the lease where work rests, then pass on the owner's word."""
    if for_ is not None:
        request |= {"for_s": _seconds(for_)}
    place = _at(home)
    before = _say(place, {"do": "status"})
    if before["running"] and is_rest:
        print(_lease_words(place, before["running"]), file=sys.stderr)
    _show(_say(place, request), as_json=as_json)


def _lease_words(home: "Home", concept: str) -> str:
    from .state import load

    session = load(home.run(concept))
    if session is None or session.slot < 0:
        return f"{concept}: it holds no slot yet, so nothing can be lost"
    return (
        f"{concept}: what was learnt is saved; slot {session.slot} stays yours for at most"
        f" {session.ttl_s // 60} min {session.ttl_s % 60} s without a sign of work, then it may go"
        " to somebody else, and the training begins anew in another slot"
    )


def _at(home: Path | None) -> "Home":
    from .home import Home

    return Home.at(home)


def _say(home: "Home", request: dict[str, Any]) -> "DaemonStatus":
    from ..core.errors import Unreachable
    from .line_client import ask

    try:
        answer = ask(home.folder / "daemon.sock", {"v": 1, **request})
        return answer["daemon"]
    except (OSError, KeyError) as error:
        raise Unreachable(
            f"no daemon answers in {home.folder}",
            why=f"{error}",
            fix="start one with orthofed client daemon --config FILE, or give its --home",
            code="no-daemon",
        ) from error


def _show(status: "DaemonStatus", *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"schema": "orthofed.daemon/1", **status}))
        return
    print("\n".join(daemon_lines(status)))


def _seconds(text: str) -> float:
    from ..core.errors import InputError
    from .daemon_control import LONGEST_WORD_S

    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhd])", text)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds <= LONGEST_WORD_S:
        raise InputError(
            f"--for {text[:40]!r}, allowed is 1s to {LONGEST_WORD_S // _UNITS['d']}d",
            why="a time is a number and one of s, m, h, d",
            fix="write --for 2h, or leave it away: it then holds until orthofed client resume",
            code="bad-time-span",
        )
    return seconds


_COMMANDS: Final = {
    "daemon": (daemon, "daemon --config daemon.toml"),
    "pause": (pause, "pause --for 2h"),
    "mode": (mode, "mode always --for 2h"),
    "resume": (resume, "resume"),
    "snooze": (snooze, "snooze"),
    "finish-then-leave": (finish_then_leave, "finish-then-leave"),
}


def register(app: typer.Typer) -> None:
    """Make the daemon's commands known to ``orthofed client``."""
    for name, (command, example) in _COMMANDS.items():
        app.command(name, epilog=f"Example: orthofed client {example}")(command)
