"""What is to happen: how many clients, when they come, who leaves, who is slow, who means ill.

Law: everything follows from the seed, so a run can be repeated and two engines can be compared. Who
comes k-th leases k-th. Shares are of all clients; who is chosen for one fate has no other.
"""

import random
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ..core.errors import InputError
from ..core.toml import parse_toml

Fate = Literal["plain", "slow", "returns", "leaves", "bad"]
"""How a client fares: ``slow`` trains ``slow_factor`` times as long; ``returns`` is killed in the
middle of its training and started again; ``leaves`` is killed and never comes back."""
Ill = Literal["huge", "copy", "other-block", "cut-blob", "squat"]
"""What a bad client does (bad_client.py)."""
ILLS: tuple[Ill, ...] = get_args(Ill)


@dataclass(frozen=True, slots=True)
class Client:
    """One client's part. ``arrives_s``: seconds after the start."""

    number: int
    arrives_s: float
    fate: Fate
    ill: Ill | None = None

    @property
    def concept(self) -> str:
        """Its concept's name, which is its trigger too."""
        return f"toy-{self.number:05d}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario file.

    ``clients``: 1 to 4,096. ``seed``: everything that is drawn follows from it. ``arrivals_s``: the
    mean pause between two arrivals, drawn from an exponential distribution; 0: all at once.
    ``slow``, ``returns``, ``leaves``, ``bad``: shares, 0 to 1 together. ``slow_factor``: 1 or more.
    ``steps``: of a training. ``train_s``: seconds that a training takes beside its arithmetic.
    ``rank``: columns a slot. ``lambda_``: of releases. ``releases``: how many, evenly spread over
    the contributions. ``ttl_s``: of a lease.
    """

    clients: int = 100
    seed: int = 0
    arrivals_s: float = 0.0
    slow: float = 0.0
    slow_factor: float = 10.0
    returns: float = 0.0
    leaves: float = 0.0
    bad: float = 0.0
    steps: int = 60
    train_s: float = 0.0
    rank: int = 1
    lambda_: float = 1.0
    releases: int = 1
    ttl_s: int = 900

    def __post_init__(self) -> None:
        """Raise InputError: a value is out of its bounds."""
        bounds: dict[str, tuple[float, float]] = {
            "clients": (1, 4_096),
            "seed": (0, 2**32 - 1),
            "arrivals_s": (0, 3_600),
            "slow": (0, 1),
            "slow_factor": (1, 1_000),
            "returns": (0, 1),
            "leaves": (0, 1),
            "bad": (0, 1),
            "steps": (1, 10_000),
            "train_s": (0, 3_600),
            "rank": (1, 64),
            "lambda_": (0, 2),
            "releases": (1, 100),
            "ttl_s": (5, 86_400),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:  # also refuses NaN
                said = f"{name.rstrip('_')} = {value}"
                said += " (--faults)" if name == "returns" else ""
                raise _bad(said, f"it is {low} to {high}")
        if (shares := self.slow + self.returns + self.leaves + self.bad) > 1:
            raise _bad(f"shares that add up to {shares:g}", "each client has one fate")

    @staticmethod
    def read(path: Path | None, **given: object) -> "Scenario":
        """Return the scenario of a file, or the default, with what is ``given`` (None: nothing).

        Raises InputError: the file cannot be read, or a key or value is wrong.
        """
        table: dict[str, Any] = {}
        if path is not None:
            try:
                table = parse_toml(path.read_text("utf-8"))
            except (OSError, ValueError) as error:
                raise _bad(str(path), str(error)) from error
        table = {name.replace("lambda", "lambda_"): value for name, value in table.items()}
        known = {field.name: type(field.default) for field in fields(Scenario)}
        for name, value in table.items():
            if name not in known:
                raise _bad(f"the key {name.rstrip('_')}", f"known are {', '.join(sorted(known))}")
            wanted = (int, float) if known[name] is float else (known[name],)
            if type(value) not in wanted:
                raise _bad(f"{name.rstrip('_')} = {value!r}", "it has another type")
        made = Scenario(**table)
        return replace(made, **{k: v for k, v in given.items() if v is not None})

    def as_dict(self) -> dict[str, object]:
        """Return every value by its name in a file."""
        return {name.rstrip("_"): value for name, value in asdict(self).items()}

    def cast(self) -> tuple[Client, ...]:
        """Return every client's part, in order of arrival."""
        chance = random.Random(f"orthofed-simulation/{self.seed}")  # noqa: S311  # to be repeated
        fates = list[Fate]()
        others: tuple[Fate, ...] = ("slow", "returns", "leaves", "bad")
        for fate in others:
            fates.extend([fate] * round(getattr(self, fate) * self.clients))
        del fates[self.clients :]
        while len(fates) < self.clients:
            fates.append("plain")
        chance.shuffle(fates)
        now_s, made = 0.0, list[Client]()
        for number, fate in enumerate(fates):
            ill = chance.choice(ILLS) if fate == "bad" else None
            made.append(Client(number, now_s, fate, ill))
            now_s += chance.expovariate(1 / self.arrivals_s) if self.arrivals_s else 0.0
        return tuple(made)


def _bad(what: str, why: str) -> InputError:
    return InputError(
        f"the scenario has {what}",
        why=why,
        fix="correct the option or the scenario file; `orthofed simulate --help` lists the options",
        code="bad-scenario",
    )
