"""One model to compare: the base, alone or with residuals and learned vectors laid over it.

    base      nothing added
    single    one contribution, exactly as quantised, at lambda 1
    merged    a release's stacked LoRA and all its embeddings, rescaled to any lambda

A release carries lambda inside `up`; its columns are the slots in rising order (formats.md 4.2), so
each slot's columns are divided by the lambda it was merged with and multiplied by the wanted one.
The base is patched while a variant is applied and never written. Left to others: whether the files
are genuine (verify.py comes first), the order of columns (core/stack.py).
"""

import contextlib
import json
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file
from torch import nn

from ..core.errors import InputError
from ..core.lorafile import embedding_folder, embedding_keys, kohya_key
from ..core.metadata_rules import forbidden_keys, strange_values
from ..core.quantise import Quantised, dequantise
from ..core.spec import Encoder, FederationSpec
from ..core.spec_blocks import block
from .base import Base
from .frozen_group import attached
from .frozen_linear import FrozenLinear
from .tokens import LearnedTokens
from .trigger import Trigger


@dataclass(frozen=True, slots=True)
class Residual:
    """One layer's low-rank residual up @ down, before lambda. Shapes: (n, R) and (R, m)."""

    up: np.ndarray
    down: np.ndarray


@dataclass(frozen=True, slots=True)
class Variant:
    """Residuals by layer path, vectors by trigger and encoder, and the residuals' strength.

    ``token_layers``: the spec's; with layer-wise tokens ``vectors`` hold one set for each of them.
    """

    residuals: Mapping[str, Residual] = field(default_factory=dict)
    vectors: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    lambda_: float = 1.0
    token_layers: tuple[str, ...] = ()

    @staticmethod
    def of_contribution(
        spec: FederationSpec,
        slot: int,
        triggers: Sequence[Trigger],
        tensors: Mapping[str, Quantised],
        *,
        lambda_: float = 1.0,
    ) -> "Variant":
        """Return the model with this contribution alone; names as in core/layout.py."""
        residuals = {}
        for layer in spec.layers:
            frozen = block(spec, layer, slot)
            up = dequantise(tensors[f"a.{layer.path}"])
            residuals[layer.path] = Residual(up, np.ascontiguousarray(frozen.T))
        vectors = {
            trigger.name: {
                encoder.name: dequantise(tensors[f"embed.{encoder.name}.{k}"])
                for encoder in spec.encoders
            }
            for k, trigger in enumerate(triggers)
        }
        return Variant(residuals, vectors, lambda_, spec.token_layers)

    @staticmethod
    def of_release(
        folder: Path,
        spec: FederationSpec,
        *,
        lambda_: float | None = 1.0,
        only: str | None = None,
        without: str | None = None,
    ) -> "Variant":
        """Return the merged model of the release in ``folder`` with every concept at ``lambda_``.

        None: each as it was merged. ``only``: this concept alone, the columns of its slot and its
        triggers; all others count nothing. ``without``: all but this one. Raises InputError: files
        are missing, of another spec, or merged with lambda 0, or there is no such concept.
        """
        merged_with = _lambdas(folder)
        chosen = set(triggers_of(folder))
        weights = [merged if lambda_ is None else lambda_ for merged in merged_with]
        for name in (only, without):
            if name is not None:
                held_triggers(folder, name)
                chosen = {name} if name == only else chosen - {name}
        held = triggers_of(folder)
        gone = {word for name in held if name not in chosen for word in held[name]}
        weights = [
            weight if name in chosen else 0.0 for name, weight in zip(held, weights, strict=True)
        ]
        factors = [weight / merged for weight, merged in zip(weights, merged_with, strict=True)]
        residuals = _residuals(_lora_file(folder), spec, factors)
        place = folder / embedding_folder(spec)
        vectors = {
            path.stem: _vectors(path, spec.encoders, spec.token_layers)
            for path in sorted(place.glob("*.safetensors"))
            if path.stem not in gone
        }
        return Variant(residuals, vectors, token_layers=spec.token_layers)

    @staticmethod
    def of_fused(
        folder: Path, spec: FederationSpec, file: Path, *, lambda_: float = 1.0
    ) -> "Variant":
        """Return the model of the LoRA ``file`` that was fused out of the release in ``folder``.

        Raises InputError: it is none of this release's, or cannot be read.
        """
        merged = Variant.of_release(folder, spec)
        residuals = _residuals(file, spec, [1.0] * len(triggers_of(folder)))
        for path, residual in residuals.items():
            if not np.array_equal(residual.down, merged.residuals[path].down):
                raise _unusable(file, f"its {path} is not that of {folder}, concept for concept")
        return Variant(residuals, merged.vectors, lambda_, spec.token_layers)

    @staticmethod
    def of_layerwise(folder: Path, base: Base) -> "Variant":
        """Return the layer-wise vectors of the release in ``folder``, without its residuals.

        For its own `checkpoint/` as ``base``, which holds the residuals already; without vectors
        where the release has ordinary tokens, which that holds too. Raises InputError: a file is
        missing or damaged.
        """
        layers = tuple(_info(folder).get("token_layers", ()))
        encoders = [Encoder(name, tower.width) for name, tower in base.towers.items()]
        vectors = {
            path.stem: _vectors(path, encoders, layers)
            for path in sorted((folder / "layerwise").glob("*.safetensors"))
        }
        if layers and not vectors:
            raise _unusable(folder, "it holds no layerwise/ with the triggers' vectors")
        return Variant(vectors=vectors, token_layers=layers)

    @staticmethod
    def sum_of(parts: Sequence["Variant"]) -> "Variant":
        """Return one model with the residuals of all ``parts`` side by side, and all vectors.

        Each part's lambda is folded into its columns, as a merge does. Raises nothing for no parts:
        that is the base.
        """
        residuals = {
            path: Residual(
                np.hstack([p.residuals[path].up * np.float32(p.lambda_) for p in parts]),
                np.vstack([p.residuals[path].down for p in parts]),
            )
            for path in (parts[0].residuals if parts else ())
        }
        vectors = {name: v for p in parts for name, v in p.vectors.items()}
        layers = next((p.token_layers for p in parts if p.token_layers), ())
        return Variant(residuals, vectors, token_layers=layers)

    @contextlib.contextmanager
    def applied(self, base: Base) -> Generator[LearnedTokens]:
        """Let ``base`` answer as this model inside the block; encode prompts with what it yields.

        Raises InputError, SpecError: vectors or layers do not fit the base.
        """
        tokens = LearnedTokens.of(base, self.vectors, layers=self.token_layers)
        members = {
            path: (base.layer(path), _frozen(residual, base.device))
            for path, residual in self.residuals.items()
        }
        with tokens.attached(), attached(members, lambda_=self.lambda_):
            yield tokens


def triggers_of(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return each concept's triggers, of the release in ``folder``, slots ascending.

    Raises InputError: its info.json cannot be read.
    """
    try:
        concepts = sorted(_info(folder)["concepts"], key=lambda one: one["slot"])
        return {
            one["concept"]: tuple(word["trigger"] for word in one["triggers"]) for one in concepts
        }
    except (KeyError, TypeError) as error:
        raise _unusable(folder, f"its info.json lacks {error}") from error


def held_triggers(folder: Path, concept: str) -> tuple[str, ...]:
    """Return the triggers of one ``concept`` of the release in ``folder``.

    Raises InputError: it holds no such concept.
    """
    held = triggers_of(folder)
    if concept not in held:
        raise InputError(
            f"the release holds no concept {concept[:60]!r}",
            why=f"it holds {', '.join(held)}"[:400],
            fix="choose one of these",
            code="no-such-concept",
        )
    return held[concept]


def strangers(
    folder: Path, prompts: Sequence[str], regions: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the prompts in which no trigger of the release stands, and all triggers it has.

    A prompt with areas has theirs too. Raises InputError: its info.json cannot be read.
    """
    triggers = [word for words in triggers_of(folder).values() for word in words]
    held = [
        re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])", re.IGNORECASE) for word in triggers
    ]
    areas = " ".join(regions)
    found = [
        prompt for prompt in prompts if not any(each.search(f"{prompt} {areas}") for each in held)
    ]
    return (found if triggers else []), triggers


def spec_of(folder: Path) -> FederationSpec:
    """Return the spec of the pulled release in ``folder``. Raises InputError: there is none."""
    try:
        return FederationSpec.from_bytes((folder / "trust" / "spec.json").read_bytes())
    except OSError as error:
        raise InputError(
            f"{folder} holds no trust/spec.json",
            why="the release's LoRA is laid beside its base as the spec says",
            fix="give the folder that orthofed pull made",
            code="not-pulled",
        ) from error


def stacked_metadata(folder: Path) -> dict[str, str]:
    """Return what the header of the release's stacked LoRA says, as far as a header may.

    Raises InputError: it cannot be read.
    """
    path = _lora_file(folder)
    try:
        with safe_open(path, "numpy") as file:
            held: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise _unusable(path, f"it cannot be read ({error})") from error
    strange = {*forbidden_keys(held), *strange_values(held)}
    return {key: text for key, text in held.items() if key not in strange}


def has_layerwise(folder: Path) -> bool:
    """Say whether ``folder`` is a release with layer-wise tokens.

    Raises InputError: its info.json cannot be read.
    """
    return (folder / "info.json").is_file() and bool(_info(folder).get("token_layers"))


def _frozen(residual: Residual, device: torch.device) -> FrozenLinear:
    a = nn.Parameter(torch.from_numpy(residual.up).to(device), requires_grad=False)
    return FrozenLinear(a, torch.from_numpy(residual.down).to(device).t(), 1.0)


def weights_of(folder: Path) -> dict[str, float]:
    """Return the lambda of each concept of the release in ``folder``, slots ascending.

    Raises InputError: its info.json cannot be read, or a concept was merged with lambda 0.
    """
    return dict(zip(triggers_of(folder), _lambdas(folder), strict=True))


def _lambdas(folder: Path) -> list[float]:
    """Return the lambda of each merged concept, slots ascending, from info.json."""
    try:
        concepts = _info(folder)["concepts"]
        by_slot = sorted((concept["slot"], concept["lambda"]) for concept in concepts)
    except (KeyError, TypeError) as error:
        raise _unusable(folder, f"its info.json lacks {error}") from error
    if any(merged == 0 for _, merged in by_slot):
        raise _unusable(folder, "a concept was merged with lambda 0 and cannot be rescaled")
    return [merged / 1024 for _, merged in by_slot]


def _info(folder: Path) -> Mapping[str, Any]:
    try:
        info = json.loads((folder / "info.json").read_bytes())
    except (OSError, ValueError) as error:
        raise _unusable(folder, f"its info.json cannot be read ({error})") from error
    if not isinstance(info, dict):
        raise _unusable(folder, "its info.json is no object")
    return info


def _residuals(path: Path, spec: FederationSpec, factors: Sequence[float]) -> dict[str, Residual]:
    """Return those of a stacked file; ``factors``: of each concept's columns, slots ascending."""
    tensors, found = _read(path), dict[str, Residual]()
    for layer in spec.layers:
        key = kohya_key(layer.path, spec.base.family)
        try:
            up, down = tensors[f"{key}.lora_up.weight"], tensors[f"{key}.lora_down.weight"]
        except KeyError:
            raise _unusable(path, f"its LoRA has no tensors for {layer.path}") from None
        rank = spec.layer_rank(layer)
        if up.size != layer.out * len(down) or len(down) < rank * len(factors):
            raise _unusable(path, f"its LoRA of {layer.path} has shapes {up.shape}, {down.shape}")
        columns = np.zeros(up.shape[1], np.float64)  # those beyond the slots are padding
        columns[: rank * len(factors)] = np.repeat(factors, rank)
        # A convolution's kernels, one a row: its unfolded map.
        exact = up.reshape(layer.out, -1).astype(np.float64) * columns
        kernels = down.reshape(-1, layer.width).astype(np.float32)
        found[layer.path] = Residual(exact.astype(np.float32), kernels)
    return found


def _lora_file(folder: Path) -> Path:
    found = [
        path
        for path in sorted((folder / "lora").glob("*.safetensors"))
        if not path.stem.endswith("-a1111")
    ]
    if len(found) != 1:
        raise _unusable(folder, f"lora/ holds {len(found)} stacked LoRA files, not one")
    return found[0]


def _vectors(
    path: Path, encoders: Sequence[Encoder], layers: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return one trigger's vectors (sets x v, width) by encoder, from its file."""
    tensors, keys = _read(path), embedding_keys(encoders, path.stem)
    if set(tensors) != set(keys.values()):
        raise _unusable(path, f"it holds {sorted(tensors)}, {sorted(keys.values())} are needed")
    sets = (len(layers),) if layers else ()
    if any(v.shape[:-2] != sets for v in tensors.values()):
        raise _unusable(path, f"it is not of the spec's {len(layers)} token layers")
    return {name: tensors[key].reshape(-1, tensors[key].shape[-1]) for name, key in keys.items()}


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unusable(path, f"it cannot be read ({error})") from error


def _unusable(place: Path, reason: str) -> InputError:
    return InputError(
        f"{place} cannot be used as a release: {reason}",
        why="the merged model is built from its files",
        fix="run orthofed pull again and verify the folder",
        code="release-unusable",
    )
