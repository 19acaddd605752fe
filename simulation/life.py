"""One simulated client, from its arrival to its receipt, or to whatever its part is.

Law: what it does is `orthofed client join` and `train`, the very functions; only the bench and the
owner are played. A ``Killed`` is a process that is gone: what it held is released by the system, no
word is sent. How it went is told once, at the end.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..client.happened import Happened
from ..client.join import join
from ..client.train_command import train_concept
from ..client.train_options import TrainOptions
from ..core.errors import OrthoFedError
from ..core.spec import FederationSpec
from . import bad_client
from .plan import Plan
from .toy import Learning, Matrix
from .toy_bench import Killed, ToyBench

if TYPE_CHECKING:
    from .scenario import Client

_PATIENCE_S = 600.0


class Life:
    """The events of one client."""

    def __init__(self, plan: Plan, number: int) -> None:
        """Take the part of client ``number``."""
        self._plan = plan
        self._client: Client = plan.clients[number]
        self._bench: ToyBench | None = None
        self._said: dict[str, object] = {}

    def live(self) -> None:
        """Play the part to its end; never raises what the coordinator or a death causes."""
        plan, client = self._plan, self._client
        plan.wait_for_turn(client)
        started_s, token = time.time(), None
        self._said = {"fate": client.fate, "ill": client.ill, "arrived_s": self._now()}
        try:
            if client.ill is not None:
                code = bad_client.misbehave(plan, client, leased=self._leased)
            else:
                token = self._contribute()
                code = "" if token is not None else "killed"
        except OrthoFedError as error:
            code = error.code
        plan.pass_turn(client)
        seconds = round(time.time() - started_s, 3)
        plan.tell(client, {**self._said, "code": code, "seconds": seconds}, token)

    def _contribute(self) -> Matrix | None:
        """Return the token of a contribution that has its receipt; None: killed for good."""
        client, scenario = self._client, self._plan.scenario
        home = self._plan.home(client)
        join(home, self._plan.invite, url=None, patience_s=_PATIENCE_S)
        killed = client.fate in ("returns", "leaves")
        try:
            self._train(die_at=max(1, scenario.steps // 2) if killed else 0)
        except Killed:
            if client.fate == "leaves":
                return None
            self._train(die_at=0)
        self._said["received_s"] = self._now()
        learning = self._again()
        toy = self._plan.toy
        down = {path: b.T for path, b in learning.blocks.items()}
        alone = {path: [(a, down[path])] for path, a in learning.a.items()}
        self._said |= {
            "base_loss": toy.loss(client.concept, None, {}),
            "single_loss": toy.loss(client.concept, learning.token, alone),
        }
        return learning.token

    def _train(self, *, die_at: int) -> None:
        """Run `client train` until its receipt, or until ``die_at``."""
        client, scenario = self._client, self._plan.scenario
        slow = scenario.slow_factor if client.fate == "slow" else 1.0

        def bench(spec: FederationSpec, _options: TrainOptions) -> ToyBench:
            self._bench = ToyBench(
                spec,
                self._plan.toy,
                scenario.steps,
                pause_s=scenario.train_s * slow,
                die_at=die_at,
                on_lease=self._leased,
            )
            return self._bench

        options = TrainOptions(
            concept=client.concept,
            noun="toy",
            images=Path(),
            base=self._plan.base,
            vectors=1,
        )
        train_concept(
            self._plan.home(client),
            options,
            report=self._hear,
            ask=lambda _: True,
            patience_s=_PATIENCE_S,
            bench=bench,  # pyright: ignore[reportArgumentType]  # it has what the command reads
        )

    def _again(self) -> Learning:
        """Return the training once more, whole: the same numbers that were packed."""
        if self._bench is None:
            raise AssertionError("it has trained")
        learning = self._bench.learning(self._client.concept, int(str(self._said["slot"])))
        for _ in range(learning.steps):
            learning.step()
        return learning

    def _leased(self, slot: int) -> None:
        self._said |= {"slot": slot, "leased_s": self._said.get("leased_s", self._now())}
        self._plan.pass_turn(self._client)

    def _hear(self, happened: Happened) -> None:
        if happened.name == "egress":
            self._said["upload_bytes"] = happened.values["upload_bytes"]
        if happened.name == "trouble":
            self._said["troubles"] = int(str(self._said.get("troubles", 0))) + 1

    def _now(self) -> float:
        return round(time.time() - self._plan.started_s, 3)


def live(plan_text: str, number: int) -> None:
    """Play client ``number`` of a plan, in whatever process this is."""
    plan = _PLANS.get(plan_text)
    if plan is None:
        plan = _PLANS.setdefault(plan_text, Plan.from_text(plan_text))
    Life(plan, number).live()


_PLANS: dict[str, Plan] = {}
"""The toy is made once a process."""
