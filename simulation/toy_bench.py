"""A simulated owner's workbench: where `client train` would load a base and images, the toy.

It stands in the place of client/workbench.py, and all that surrounds it is the client's own. A
training can be told to take longer, and to end with its process's death (``Killed``).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..client.session import Session
from ..client.step import Step
from ..client.trained import Trained
from ..client.training_settings import TrainingSettings
from ..core.spec import FederationSpec
from ..core.spec_blocks import block
from .toy import Learning, Toy

_PROBES = 4


class Killed(BaseException):
    """Stands for SIGKILL: nothing that cleans up after an error may catch it."""


@dataclass(frozen=True, slots=True)
class ToyBench:
    """One concept's bench. ``pause_s``: seconds of a training beside its arithmetic.

    ``die_at``: the step in which the process is killed, 0: none. ``on_lease``: told once the slot
    is leased.
    """

    spec: FederationSpec
    toy: Toy
    steps: int
    pause_s: float = 0.0
    die_at: int = 0
    on_lease: Callable[[int], None] = lambda _: None
    losses: list[float] = field(default_factory=list[float])

    @property
    def has_images(self) -> bool:
        """There are none to score on."""
        return False

    @property
    def settings(self) -> TrainingSettings:
        """What the client's command reads of a training's settings."""
        return TrainingSettings(steps=self.steps)

    def decides(self, *, missing: bool = False) -> dict[str, object]:
        """Return what decides the training."""
        del missing
        return {"steps": self.steps}

    def before_lease(
        self, session: Session, home: Path
    ) -> Iterator[tuple[str, Mapping[str, object]]]:
        """Check nothing: the toy fits everywhere."""
        del session, home
        yield from ()

    def told(self, folder: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
        """Give nothing more before the yes."""
        del folder
        yield from ()

    def train(
        self,
        session: Session,
        saves: Path,
        *,
        cache: Path,
        classes: Path,
        log: Path,
        on_step: Callable[[Step], None],
    ) -> Trained:
        """Learn the concept in the leased slot; the same again gives the same numbers."""
        del saves, cache, classes, log
        self.on_lease(session.slot)
        learning = self.learning(session.concept, session.slot)
        started_s = time.monotonic()
        for number in range(1, self.steps + 1):
            loss = learning.step()
            self.losses.append(loss)
            time.sleep(self.pause_s / self.steps)
            on_step(_step(number, self.steps, loss))
            if number == self.die_at:
                raise Killed
        return Trained(
            a=learning.a,
            embeddings={("text_encoder", 0): learning.token[None, :]},
            probes={0: np.tile(learning.token / np.linalg.norm(learning.token), (_PROBES, 1))},
            losses=tuple(self.losses),
            seconds=time.monotonic() - started_s,
            resumed_at=0,
        )

    def learning(self, concept: str, slot: int) -> Learning:
        """Return a training that has not begun."""
        return self.toy.learnt(concept, blocks_of(self.spec, slot), self.steps)

    def forget(self, cache: Path) -> None:
        """There is no cache."""
        del cache


def blocks_of(spec: FederationSpec, slot: int) -> dict[str, np.ndarray]:
    """Return B (m, r) of every layer of a slot."""
    return {layer.path: block(spec, layer, slot) for layer in spec.layers}


def _step(number: int, steps: int, loss: float) -> Step:
    """Return a step without tokens: nobody draws with a toy."""
    return Step(number, steps, loss, 0.0, 0.0, 1.0, 0.0, tokens=None)  # pyright: ignore[reportArgumentType]
