"""The command ``release``: plan, build in this process, publish; and go on where a kill stopped it.

Law (reliability.md 2.5): the plan and the leaf are the desk's, in the process that owns the store;
building and signing happen here, with the release key that only this command reads. A plan that was
left open is finished first, with the bytes it would have had, unless something that it holds was
taken out since: then it is planned anew; then, if contributions came since, one more release holds
them. One process at a time makes releases.
"""

import fcntl
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from ..core.document import parse
from ..core.errors import InputError, Refused
from ..core.keyring import Keyring
from ..core.spec import FederationSpec
from .base import BaseFolder
from .control import Desk
from .folder import DataFolder
from .fs import Fs
from .keyfile import find_key
from .picturing import Draw
from .publications import Plan
from .publisher import build
from .release_planning import manifest_of


def publish_newest(
    folder: DataFolder,
    desk: Desk,
    *,
    lambda_1024: int | None,
    resume: bool,
    say: Callable[[str], None],
    draw: Draw | None = None,
) -> dict[str, Any]:
    """Publish until the newest release holds what is accepted; return what was made last.

    ``resume``: finish an open plan and make no other. ``draw``: what gives the sample pictures of
    a release that is built now. Another process that makes a release is waited for.
    """
    with _alone(folder, say):
        return _publish_newest(folder, desk, lambda_1024, say, draw, resume=resume)


def _publish_newest(
    folder: DataFolder,
    desk: Desk,
    lambda_1024: int | None,
    say: Callable[[str], None],
    draw: Draw | None,
    *,
    resume: bool,
) -> dict[str, Any]:
    finished: dict[str, Any] | None = None
    if desk.ask("status", {})["plan_open"]:
        finished = _publish(folder, desk, desk.ask("plan", {"lambda_1024": None}), say, draw)
        if resume:
            return finished
    elif resume:
        raise Refused(
            "no release was interrupted",
            why="there is no open plan",
            fix="run orthofed coordinator release without --resume",
            code="nothing-to-resume",
        )
    derived = list(folder.settings().derive)
    _check_drawn(derived, draw)
    answer = desk.ask("plan", {"lambda_1024": lambda_1024, "derived": derived})
    made = _publish(folder, desk, answer, say, draw)
    return made if made["new"] or finished is None else finished


@contextmanager
def _alone(folder: DataFolder, say: Callable[[str], None]) -> Iterator[None]:
    """Make releases for this process alone: two would build in one folder."""
    fd = Fs().lock_file(folder.release_lock)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process makes a release: waiting until it has")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _publish(
    folder: DataFolder,
    desk: Desk,
    answer: dict[str, Any],
    say: Callable[[str], None],
    draw: Draw | None,
) -> dict[str, Any]:
    """Publish the plan of ``answer``, if it is a new one; what was taken out meanwhile goes."""
    while answer["new"]:
        plan = Plan.from_bytes(answer["plan"].encode())
        _check_drawn(plan.derived, draw)
        _build(folder, desk, plan, say, draw)
        try:
            desk.ask("publish", {"n": plan.n})
        except Refused as error:
            if error.code != "plan-outdated":
                raise
            say(f"{error}; planning anew")
            answer = desk.ask("plan", {"lambda_1024": None})
        else:
            return _told(plan, folder, new=True)
    return _told(Plan.from_bytes(answer["plan"].encode()), folder, new=False)


def _build(
    folder: DataFolder, desk: Desk, plan: Plan, say: Callable[[str], None], draw: Draw | None
) -> None:
    settings = folder.settings()
    spec = FederationSpec.from_bytes((folder.public / "spec.json").read_bytes())
    ring = parse(desk.ask("keyring", {})["document"].encode(), kind="keyring")
    key = find_key(folder.keys, "release", Keyring.from_body(ring.body).release)
    fs = Fs(reserve_bytes=settings.reserve_mib << 20)
    build(folder, spec, plan, key, base=BaseFolder(settings.base), fs=fs, say=say, draw=draw)


def _check_drawn(derived: Collection[str], draw: Draw | None) -> None:
    """Refuse pictures of a release without the model that draws them, before it is planned."""
    if draw is not None and "checkpoint" in derived:
        raise InputError(
            "--samples, and the release leaves out the checkpoint",
            why="sample pictures are drawn from checkpoint/",
            fix="take checkpoint out of `derive` in coordinator.toml, or leave --samples out",
            code="no-pictures",
        )


def _told(plan: Plan, folder: DataFolder, *, new: bool) -> dict[str, Any]:
    return {
        "n": plan.n,
        "new": new,
        "concepts": len({manifest_of(item).block for item in plan.included}),
        "folder": str(folder.releases / str(plan.n)),
    }
