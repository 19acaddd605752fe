"""`orthofed client import --dry-run`: what a slot would keep; nothing is leased, nothing sent.

Only the spec is asked for. The figures are those of the command itself for the slot that is named.
"""

from collections.abc import Callable
from dataclasses import replace

from ..core.spec import FederationSpec
from .happened import Happened
from .home import Home
from .home_channel import home_channel
from .pinned import remembered
from .session import Session
from .train_options import TrainOptions
from .workbench import Workbench


def dry_run(
    home: Home,
    options: TrainOptions,
    bench: Callable[[FederationSpec, TrainOptions], Workbench],
    *,
    slot: int,
    report: Callable[[Happened], None],
) -> None:
    """Report what the LoRA would keep in ``slot``.

    With a share it is that of the share. Raises InputError: file, words or settings are bad.
    Raises SpecError: there is no such slot.
    """
    options = options.joined()
    slot = slot if options.share is None else options.share.share.slot
    with home_channel(home, patience_s=10) as channel:
        spec = remembered(home, channel).federation.spec
    triggers = options.triggers or (options.concept,)
    vectors = (options.vectors,) * len(triggers)
    session = Session(options.concept, triggers, vectors, options.noun, "", 0)
    for name, values in bench(spec, options).before_lease(replace(session, slot=slot), home.folder):
        report(Happened(name, values))
