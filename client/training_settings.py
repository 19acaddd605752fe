"""How one concept is trained: every setting with its unit and bounds, from a preset, TOML, options.

The defaults are those of the demo, measured by benchmarks/retention.py on the base model that
ships; presets.py holds those for the models that people use. Two things matter more than the rest
(method.md 10): the tokens learn much faster than A, and the null-response term keeps A silent
where the concept is not asked for. An unknown key, a wrong type or a value out of bounds is an
error. Later wins: default, preset, file, option of the command line.
"""

# ruff: noqa: RUF009, FBT003 -- each field is made by a call that takes its default first

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from ..core.errors import InputError
from ..core.toml import parse_toml
from .captions import PLACE, TEMPLATES
from .presets import PRESETS
from .setting import allowed, broken, choice, exact, number, path, seen, switch, texts, word

Schedule = Literal["cosine", "linear", "constant"]
Optimiser = Literal["adamw", "adamw8bit", "prodigy"]
CacheKind = Literal["memory", "disk"]
Precision = Literal["fp32", "bf16", "fp16"]
DpMode = Literal["sgd", "mean"]

_PRESET: Final = "preset"
_INDECISIVE: Final = frozenset(
    {
        # Speed, last bits at most: a save that was made on one device goes on on another.
        *("save_every_s", "threads", "processes", "checkpointing", "deterministic", "device"),
        *("cache", "keep_cache", "prior_folder"),  # what lies in it is in the images' digest
        "slow_factor",
        *("sample_every", "sample_prompts", "sample_count", "sample_steps", "wandb"),  # only shown
        *("validate_every", "validate_draws"),
    }
)


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Settings of one training run; `described` lists them with units and bounds."""

    steps: int = number(400, 1, 100_000, "optimiser steps")
    batch: int = number(8, 1, 1_024, "images a pass")
    accumulation: int = number(1, 1, 1_024, "passes a step; their gradients are averaged")
    rate: float = number(1e-3, 0, 10, "learning rate on A where the layer reads the prompt")
    image_rate: float = number(3e-4, 0, 10, "on A of the other layers, which answer every prompt")
    token_rate: float = number(3e-2, 0, 10, "on the token vectors; 30 to 100 times rate")
    optimiser: Optimiser = choice("adamw", Optimiser, "prodigy finds the three rates itself")
    schedule: Schedule = choice("cosine", Schedule, "of all rates, after the warm-up")
    warmup_steps: int = number(10, 0, 10_000, "steps of linear rise")
    weight_decay: float = number(0.0, 0, 1, "on A; token vectors have none")
    clip_norm: float = number(1.0, 0, 1e6, "largest norm of each group's gradient; 0: no bound")
    ema_decay: float = number(
        0.0, 0, 0.99999, "of the average of A and vectors that is kept; 0: none"
    )
    min_snr_gamma: float = number(
        0.0, 0, 100, "min-SNR loss weighting (arXiv 2303.09556); 5 is usual, 0 is off"
    )
    noise_offset: float = number(0.0, 0, 1, "share of a constant added to each channel's noise")
    null_weight: float = number(10.0, 0, 1e4, "of the null-response term; 0: none")
    null_batch: int = number(8, 1, 1_024, "public states a pass")
    null_images: int = number(24, 0, 10_000, "class images that the base draws for it, once")
    null_sampling_steps: int = number(12, 1, 1_000, "states kept of each")
    null_states: int = number(24, 0, 10_000, "noisy states of each of the owner's images for it")
    strangers: int = number(16, 0, 1_000, "invented triggers on which to be silent too; 0: none")
    prior_weight: float = number(0.0, 0, 1e4, "of the loss on class images; 0: none; 1 is usual")
    prior_images: int = number(100, 1, 2_000, "class images that the base draws for it, once")
    prior_steps: int = number(30, 1, 1_000, "denoising steps of a class image")
    prior_guidance: float = number(7.5, 1, 100, "classifier-free guidance of a class image")
    prior_folder: str = path("", "class images of your own in their place; empty: none")
    templates: tuple[str, ...] = texts(
        TEMPLATES, "captions in turn of images without a .txt file", each=PLACE
    )
    shuffle_captions: bool = switch(False, "put the comma-separated tags in a new order each pass")
    keep_tags: int = number(1, 0, 100, "first tags that stay first when captions are shuffled")
    caption_dropout: float = number(0.0, 0, 1, "share of captions replaced by the empty one")
    jitters: int = number(1, 1, 64, "encodings of each image; the first is the image itself")
    jitter_pixels: int = number(2, 0, 64, "largest shift of a jittered one, pixels")
    jitter_colour: float = number(
        0.0, 0, 0.5, "largest change of a jittered one's brightness, contrast and saturation"
    )
    flip: bool = switch(False, "also train on mirrored images; not for faces or text")
    buckets: bool = switch(True, "keep each image's shape as near as the model allows")
    mask_floor: float = number(0.1, 0, 1, "weight of what a mask leaves out")
    device: str = word(
        "auto",
        r"auto|cpu|mps|cuda(:[0-9]{1,2})?",
        "auto or cpu or cuda or cuda:N or mps",
        "where it runs; auto: the first CUDA GPU, or the CPU",
    )
    precision: Precision = choice("fp32", Precision, "of the passes; fp16 on a CUDA GPU only")
    checkpointing: bool = switch(False, "recompute activations: less memory, a third slower")
    deterministic: bool = switch(True, "the same bits again, at some cost on a GPU")
    seed: int = number(0, 0, 2**63 - 1, "of every draw in the run")
    processes: int = number(
        1, 1, 64, "share the passes of a step, on GPUs each on its own; divides accumulation"
    )
    threads: int = number(0, 0, 1_024, "CPU threads of torch; 0: as it is")
    cache: CacheKind = choice("memory", CacheKind, "where latents and the base's answers wait")
    keep_cache: bool = switch(False, "keep what is cached on disk after packing")
    slow_factor: float = number(
        5.0, 0, 1e6, "20 steps in a row slower than this times the dry run's stop it; 0: never"
    )
    save_every_s: float = number(300.0, 0, 86_400, "seconds between training saves")
    sample_every: int = number(0, 0, 100_000, "steps between samples, kept at home; 0: never")
    sample_prompts: tuple[str, ...] = texts(("a photo of {}",), "{} stands for the concept")
    sample_count: int = number(2, 1, 16, "images a prompt, each from noise of its own")
    sample_steps: int = number(20, 1, 1_000, "denoising steps of a sample")
    validate_every: int = number(0, 0, 100_000, "steps between held-out losses; 0: never")
    validate_draws: int = number(
        64, 1, 4_096, "noisy held-out images of each loss, always the same"
    )
    dp_epsilon: float = number(
        0.0, 0, 10, "of differential privacy per image, as --dp eps=8; 0: none"
    )
    dp_batch: int = number(
        0, 0, 100_000, "images that a step with noise draws on average; 0: an eighth, 25 to 256"
    )
    dp_clip: float = number(
        0.02, 0.001, 1e5, "norm that each image's gradient is given in it, beside the null response"
    )
    dp_mode: DpMode = choice("sgd", DpMode, "mean, for fewer images, learns the words alone")
    dp_move: float = number(
        0.5, 0.001, 1e5, "with mean, the farthest that an image moves the vectors, all together"
    )
    dp_mean_steps: int = number(32, 1, 10_000, "with mean, steps on each image alone")
    wandb: bool = switch(False, "send loss and rate of each step to Weights & Biases")

    def __post_init__(self) -> None:
        """Refuse a value of the wrong type or out of bounds.

        Raises InputError: the setting is named with its bounds.
        """
        for item in fields(self):
            value = getattr(self, item.name)
            bounds = broken(item, value)
            _check(not bounds, item.name, value, bounds)
        _check(
            self.accumulation % self.processes == 0,
            *("accumulation", self.accumulation),
            f"a multiple of processes = {self.processes}, which share its passes; batch x "
            "accumulation images are seen in a step with any number of them",
        )

    @property
    def is_mean(self) -> bool:
        """Whether one noisy mean is trained, of vectors alone (dp_mean.py)."""
        return self.dp_epsilon > 0 and self.dp_mode == "mean"

    @property
    def own_states(self) -> int:
        """Noisy states of each of the owner's images for the null-response term.

        None where these are private: the term is not noised, so it must not see them.
        """
        return 0 if self.dp_epsilon else self.null_states

    @property
    def on_disk(self) -> bool:
        """Whether latents and the base's answers wait on the disk, where processes share them."""
        return self.cache == "disk" or self.processes > 1

    @staticmethod
    def read(
        path: Path | None = None,
        *,
        preset: str | None = None,
        kept: Mapping[str, object] | None = None,
    ) -> "TrainingSettings":
        """Return the settings of ``preset``, then of the TOML file; the rest keeps its default.

        ``kept``: those of an earlier run, in the place of the defaults.

        The file may name its own preset with the key ``preset``; the argument wins.
        Raises InputError: no such preset, no TOML, an unknown key, or a value out of bounds.
        """
        given = _toml(path) if path is not None else {}
        asked = given.pop(_PRESET, None)
        values = {**_preset(preset if preset is not None else asked), **given}
        known = {item.name: type(item.default) for item in fields(TrainingSettings)}
        for key, value in values.items():
            _check(key in known, key, value, f"one of the keys {', '.join((_PRESET, *known))}")
        before = {k: v for k, v in (kept or {}).items() if k in known}  # of any version
        read = {k: exact(v, known[k]) for k, v in {**before, **values}.items()}
        return TrainingSettings(**read)

    @staticmethod
    def described() -> list[tuple[str, object, str, str]]:
        """Return (key, default, allowed values, what it means) of every setting."""
        return [
            (item.name, item.default, allowed(item), item.metadata["says"])
            for item in fields(TrainingSettings)
        ]

    def as_dict(self) -> dict[str, object]:
        """Return every setting by its name."""
        return asdict(self)

    @property
    def decisive(self) -> dict[str, object]:
        """What decides the bits that are learnt, by its name."""
        return {key: value for key, value in asdict(self).items() if key not in _INDECISIVE}

    def reading_as(self, other: Mapping[str, Any]) -> "TrainingSettings":
        """Return these settings with captions and shapes of images as in ``other``, a log's."""
        same = {key: other[key] for key in ("buckets", "templates", "dp_epsilon") if key in other}
        return replace(self, **{k: exact(v, type(getattr(self, k))) for k, v in same.items()})

    def rate_at(self, step: int) -> float:
        """Return the share of the full rate at ``step``: linear warm-up, then the schedule."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        if self.schedule == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
        return 1.0 if self.schedule == "constant" else 1.0 - done


def _toml(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as TOML: {error}",
            why="the training settings are read from it",
            fix="correct the file, or leave the option away for the defaults",
            code="settings-unreadable",
        ) from error


def _preset(name: object) -> Mapping[str, object]:
    if name is None:
        return {}
    _check(isinstance(name, str) and name in PRESETS, _PRESET, name, f"one of {', '.join(PRESETS)}")
    return PRESETS[str(name)]


def _check(holds: bool, key: str, value: object, allowed: str) -> None:  # noqa: FBT001  # the fact
    if not holds:
        raise InputError(
            f"training setting {key} = {seen(value)}, allowed is {allowed}",
            why="a setting that is misread trains something else",
            fix=f"correct {key}; orthofed client settings lists all of them",
            code="bad-training-setting",
        )
