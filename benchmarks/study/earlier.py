"""What an earlier run found, so that a study grows by methods, seeds and pictures a day at a time.

A result holds every outcome, so methods of two runs are compared like those of one, as long as
both had the same conditions. What shows that: the same concepts and steps, and the same losses of
the base, which its weights, the held-out images, the noise draws and the seed decide. The code that
trains may have changed between two runs: each run's commit stands in the result.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .drawn import Drawn
from .trial import Trial
from .trials import Outcome

SCHEMA = "orthofed.study/2"
_SAME = 3e-6
"""Losses may differ by this, relative: sums of another machine, and seven digits are kept."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """Outcomes and pictures of earlier runs; ``runs``: date, command, commit, methods of each.

    A run also tells its training seed, and the cells whose pictures it drew where it did no more.
    """

    runs: tuple[Mapping[str, Any], ...] = ()
    tuning: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()
    drawn: tuple[Drawn, ...] = ()

    @staticmethod
    def read(path: Path | None, base: Mapping[str, float], *, steps: int | str) -> "Earlier":
        """Read a result; None: nothing was run before. Raises SystemExit: other conditions."""
        if path is None:
            return Earlier()
        held = json.loads(path.read_text())
        if held["schema"] != SCHEMA:
            raise SystemExit(f"{path} is a result of {held['schema']}, not of {SCHEMA}")
        if held["steps"] != steps:
            raise SystemExit(f"{path} was run with steps {held['steps']}, not {steps}")
        if held["base"].keys() != base.keys():
            raise SystemExit(f"{path} is about {', '.join(held['base'])}: choose the same --num")
        for name, loss in base.items():
            if abs(held["base"][name] / loss - 1) > _SAME:
                raise SystemExit(
                    f"{path} was run under other conditions: the base's loss on {name} is "
                    f"{held['base'][name]} there and {loss} here; give its --base, --people, "
                    "and --draws, or leave --add"
                )
        return Earlier(
            tuple(held["runs"]),
            held["tuning"],
            tuple(Outcome.of_plain(each) for each in held["outcomes"]),
            tuple(Drawn.of_plain(each) for each in held["drawn"]),
        )

    def trials(self, method: str, cell: str, seed: int) -> list[Trial]:
        """Return what was tried. Raises SystemExit: nothing."""
        all_ = (outcome.trial for outcome in self.outcomes)
        found = [t for t in all_ if (t.method, t.cell, t.seed) == (method, cell, seed)]
        if not found:
            raise SystemExit(
                f"nothing of {method} at {cell} with seed {seed} stands in the result: "
                "run the method first, or choose other --cells"
            )
        return found

    def rerun(self, outcomes: Collection[Outcome]) -> "Earlier":
        """Leave out what ``outcomes``, all of one method and seed, take the place of.

        Other sets, lambdas and pictures of that method stand if they are of the same trainings:
        the same factor on the rates, and every concept alone with the loss that it had.
        """
        trials = {outcome.trial for outcome in outcomes}
        ((method, seed),) = {(trial.method, trial.seed) for trial in trials}

        def is_own(trial: Trial) -> bool:
            return (trial.method, trial.seed) == (method, seed)

        had = {o.trial: o for o in self.outcomes if is_own(o.trial)}
        alone = [o for o in outcomes if len(o.trial.names) == 1]
        same = all(o.trial in had and _is_near(o, had[o.trial]) for o in alone)
        stay = {trial for trial in had if same and trial not in trials}
        runs = self.runs if stay else tuple(_unsaid(run, method, seed) for run in self.runs)
        return Earlier(
            tuple(run for run in runs if run["methods"]),
            self.tuning,
            tuple(o for o in self.outcomes if not is_own(o.trial) or o.trial in stay),
            tuple(d for d in self.drawn if not is_own(d.trial) or same),
        )

    def undrawn(self, trials: Collection[Trial]) -> "Earlier":
        """Leave out the pictures of ``trials``, which are about to be drawn again."""
        return replace(self, drawn=tuple(d for d in self.drawn if d.trial not in trials))

    def grown(
        self,
        outcomes: tuple[Outcome, ...],
        drawn: tuple[Drawn, ...],
        tuning: Mapping[str, Mapping[str, float]],
    ) -> "Earlier":
        """Add what was found since."""
        return Earlier(self.runs, tuning, self.outcomes + outcomes, self.drawn + drawn)


def _is_near(one: Outcome, other: Outcome) -> bool:
    return all(abs(one.losses[name] / loss - 1) <= _SAME for name, loss in other.losses.items())


def _unsaid(run: Mapping[str, Any], method: str, seed: int) -> Mapping[str, Any]:
    """Return ``run`` without a method of which nothing that it found is left."""
    if run.get("seed", 0) != seed:
        return run
    return {**run, "methods": [other for other in run["methods"] if other != method]}
