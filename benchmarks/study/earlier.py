"""What an earlier run found, so that a study can grow by a few methods a day.

A result holds every outcome, so methods of two runs are compared like those of one, as long as
both had the same conditions. What shows that: the same concepts and steps, and the same losses of
the base, which its weights, the held-out images, the noise draws and the seed decide. The code that
trains may have changed between two runs: each run's commit stands in the result.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .pictures import Drawn
from .trials import Outcome

SCHEMA = "orthofed.study/2"
_SAME = 1e-6
"""Losses of the base may differ by this, relative: sums of another machine."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """Outcomes and pictures of earlier runs; ``runs``: date, command, commit, methods of each."""

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
                    "--draws and --seed, or leave --add"
                )
        return Earlier(
            tuple(held["runs"]),
            held["tuning"],
            tuple(Outcome.of_plain(each) for each in held["outcomes"]),
            tuple(Drawn.of_plain(each) for each in held["drawn"]),
        )

    def without(self, methods: Collection[str]) -> "Earlier":
        """Leave out ``methods``, which are about to be run again."""
        runs = [
            {**run, "methods": [m for m in run["methods"] if m not in methods]} for run in self.runs
        ]
        return Earlier(
            tuple(run for run in runs if run["methods"]),
            self.tuning,
            tuple(o for o in self.outcomes if o.trial.method not in methods),
            tuple(d for d in self.drawn if d.trial.method not in methods),
        )
