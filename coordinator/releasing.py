"""The command ``release``: plan, build in this process, publish; and go on where a kill stopped it.

Law (reliability.md 2.5): the plan and the leaf are the desk's, in the process that owns the store;
building and signing happen here, with the release key that only this command reads. A plan that was
left open is finished first, with the bytes it would have had; then, if contributions came since,
one more release holds them.
"""

from collections.abc import Callable, Collection
from typing import Any

from ..core.document import parse
from ..core.errors import InputError, Refused
from ..core.keyring import Keyring
from ..core.spec import FederationSpec
from .base import BaseFolder
from .control import Desk
from .desk import manifest_of
from .folder import DataFolder
from .fs import Fs
from .keyfile import find_key
from .picturing import Draw
from .publications import Plan
from .publisher import build


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
    a release that is built now.
    """
    if desk.ask("status", {})["plan_open"]:
        made = _publish(folder, desk, desk.ask("plan", {"lambda_1024": None}), say, draw)
        if resume:
            return made
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
    if not answer["new"]:
        return _told(Plan.from_bytes(answer["plan"].encode()), folder, new=False)
    return _publish(folder, desk, answer, say, draw)


def _publish(
    folder: DataFolder,
    desk: Desk,
    answer: dict[str, Any],
    say: Callable[[str], None],
    draw: Draw | None,
) -> dict[str, Any]:
    plan = Plan.from_bytes(answer["plan"].encode())
    _check_drawn(plan.derived, draw)
    settings = folder.settings()
    spec = FederationSpec.from_bytes((folder.public / "spec.json").read_bytes())
    ring = parse(desk.ask("keyring", {})["document"].encode(), kind="keyring")
    key = find_key(folder.keys, "release", Keyring.from_body(ring.body).release)
    fs = Fs(reserve_bytes=settings.reserve_mib << 20)
    build(folder, spec, plan, key, base=BaseFolder(settings.base), fs=fs, say=say, draw=draw)
    desk.ask("publish", {"n": plan.n})
    return _told(plan, folder, new=True)


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
