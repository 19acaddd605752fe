"""Another process of a training: loads the base where its rank says, and makes its share of passes.

It talks to nobody but the first process, gives its trained values to nobody (they are equal to the
first one's) and writes nothing but the shared cache. It ignores Ctrl-C, which a terminal sends to
all: the first one decides what that means. It ends with the first one, however that one ends.
"""

import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path

from ..core.errors import OrthoFedError
from ..core.spec import FederationSpec
from .base import Base
from .caches import Caches
from .checkpoint import TrainingSaves
from .dataset import ConceptImages
from .out_of_memory import told_when_out_of_memory
from .placement import Machine, Placement
from .process_group import ProcessGroup, WorkerLost
from .training import train
from .training_settings import TrainingSettings
from .trigger import Trigger

Told = tuple[str, str, str, str] | None
"""What a worker tells the first process: None when it is ready, else an error's four texts."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What every process of one training is given; the base each loads for itself."""

    spec: FederationSpec
    slot: int
    triggers: Sequence[Trigger]
    noun: str
    images: ConceptImages
    settings: TrainingSettings
    base: Path
    saves: TrainingSaves
    cache: Path
    classes: Path


def work(shared: Shared, rank: int, meeting: Path, told: "connection.Connection") -> None:
    """Do rank ``rank``'s share of the training; errors go to ``told``, and then it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    try:
        with told_when_out_of_memory(shared.settings):
            _train(shared, rank, meeting, told)
    except WorkerLost:
        pass  # the first one knows who was lost, and why
    except OrthoFedError as error:
        told.send((error.what, error.why, error.fix, error.code))


def _train(shared: Shared, rank: int, meeting: Path, told: "connection.Connection") -> None:
    settings, spec = shared.settings, shared.spec
    machine = Machine.here()
    placement = Placement.of(settings.device, settings.precision, machine, rank=rank)
    base = Base.load(shared.base, spec=spec, placement=placement)
    told.send(None)
    with ProcessGroup.joined(rank, settings.processes, meeting) as group:
        train(
            base,
            spec,
            shared.slot,
            shared.triggers,
            shared.noun,
            shared.images,
            settings,
            saves=shared.saves,
            caches=Caches.at(shared.cache, shared.classes, settings),
            group=group,
        )


def _end_with_the_first() -> None:
    """End this process when the one that started it is gone: its socket may never say so."""
    first = parent_process()
    if first is not None:
        connection.wait([first.sentinel])
    os._exit(1)
