"""How one concept is trained: every setting with its unit and bounds, read from TOML or given.

The defaults are those of the demo, measured by benchmarks/retention.py on the base model that
ships. Two things matter more than the rest (method.md 10): the tokens learn much faster than A, and
the null-response term keeps A silent where the concept is not asked for. An unknown key, a wrong
type or a value out of bounds is an error.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args

from ..core.errors import InputError

Schedule = Literal["cosine", "linear", "constant"]

_BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "steps": (1, 100_000),
    "batch": (1, 1_024),
    "rate": (0.0, 1.0),
    "image_rate": (0.0, 1.0),
    "token_rate": (0.0, 1.0),
    "warmup_steps": (0, 10_000),
    "weight_decay": (0.0, 1.0),
    "clip_norm": (0.0, 1e6),
    "null_weight": (0.0, 1e4),
    "null_batch": (1, 1_024),
    "null_images": (0, 10_000),
    "null_states": (0, 10_000),
    "null_sampling_steps": (1, 1_000),
    "jitters": (1, 64),
    "jitter_pixels": (0, 64),
    "seed": (0, 2**63 - 1),
    "threads": (0, 1_024),
    "save_every_s": (0.0, 86_400.0),
}


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Settings of one training run; the bounds stand in this module."""

    steps: int = 250
    batch: int = 8  # images a step
    rate: float = 1e-4  # AdamW's learning rate on A where the layer reads the prompt
    image_rate: float = 1e-4  # on A of the other layers, which answer every prompt
    token_rate: float = 1e-2  # on the token vectors; 30 to 100 times the rate on A
    schedule: Schedule = "cosine"  # of both rates, to 0 after the warm-up
    warmup_steps: int = 10
    weight_decay: float = 0.0  # on A; token vectors have none
    clip_norm: float = 1.0  # of each group's gradient; 0 = no clipping
    null_weight: float = 4.0  # of the null-response term; 0 = none, nothing is sampled for it
    null_batch: int = 4  # public states a step
    null_images: int = 24  # images that the base samples for it, once; 0 = none
    null_sampling_steps: int = 12  # states kept of each
    null_states: int = 24  # noisy states of each of the owner's images for it
    jitters: int = 1  # encodings of each image; the first is the image itself
    jitter_pixels: int = 2  # largest shift of a jittered one
    seed: int = 0  # of every draw in the run
    threads: int = 0  # of torch; 0 = as it is
    save_every_s: float = 300.0  # between training saves

    def __post_init__(self) -> None:
        """Refuse a value of the wrong type or out of bounds.

        Raises InputError: the setting is named with its bounds.
        """
        for field in fields(self):
            value, wanted = getattr(self, field.name), type(field.default)
            if field.name == "schedule":
                _check(value in get_args(Schedule), field.name, value, str(get_args(Schedule)))
                continue
            low, high = _BOUNDS[field.name]
            is_number = isinstance(value, wanted) and not isinstance(value, bool)
            inside = is_number and math.isfinite(value) and low <= value <= high
            _check(inside, field.name, value, f"a {wanted.__name__} from {low:g} to {high:g}")

    @staticmethod
    def from_toml(path: Path) -> "TrainingSettings":
        """Read settings from a TOML file; what it does not name keeps its default.

        Raises InputError: no TOML, an unknown key, or a value out of bounds.
        """
        try:
            given = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read as TOML: {error}",
                why="the training settings are read from it",
                fix="correct the file, or leave the option away for the defaults",
                code="settings-unreadable",
            ) from error
        known = {field.name: type(field.default) for field in fields(TrainingSettings)}
        for key in given:
            _check(key in known, key, given[key], f"one of the keys {', '.join(known)}")
        # In TOML 1 is an integer and 1.0 a float; both may stand for a float.
        exact: dict[str, Any] = {
            k: float(v) if known[k] is float and type(v) is int else v for k, v in given.items()
        }
        return TrainingSettings(**exact)

    def as_dict(self) -> dict[str, object]:
        """Return every setting by its name."""
        return asdict(self)

    def rate_at(self, step: int) -> float:
        """Return the share of the full rate at ``step``: linear warm-up, then the schedule."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        if self.schedule == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
        return 1.0 if self.schedule == "constant" else 1.0 - done


def _check(holds: bool, key: str, value: object, allowed: str) -> None:  # noqa: FBT001  # the fact
    if not holds:
        raise InputError(
            f"training setting {key} = {value!r}, allowed is {allowed}",
            why="a setting that is misread trains something else",
            fix=f"correct {key}",
            code="bad-training-setting",
        )
