"""What a federation agrees on, for ever: the base, the basis, the layers, the ranks, the limits.

A FederationSpec is frozen; its canonical bytes (CJ, security.md 4.1) hash to the federation's id.
Law: ``from_bytes(data).to_bytes() == data`` and unknown fields are refused, so one spec has one id.
Fractions are integers with their unit in the name (lambda in 1/1024ths). Planning one, with ranks,
capacity and the check that its basis takes every width, is `plan_spec`.
Source: design.md (glossary), method.md 4, security.md 4.3. Cost: linear in the number of layers.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from . import canonical, slots
from .basis import FAMILIES, Family
from .epochs import check_epochs
from .errors import SpecError, VerificationFailed
from .fields import is_hex
from .haar import MAX_HAAR_WIDTH, haar_table
from .hadamard import supported
from .layer import MAX_WIDTH, Layer
from .spec_parts import (
    DEFAULT_LIMITS,
    HIGHEST,
    LIMIT_BOUNDS,
    LOWEST,
    MAX_ENCODERS,
    MAX_LAYERS,
    MAX_SPEC_BYTES,
    MAX_TOKEN_LAYERS,
    PROMPT,
    VERSION,
    BaseModel,
    Encoder,
    Limits,
    bad_spec,
)
from .spec_reading import read_spec
from .token_layers import run_order

__all__ = [
    "PROMPT",
    "BaseModel",
    "Encoder",
    "FederationSpec",
    "Layer",
    "Limits",
    "check_widths",
    "plan_spec",
]

BASE_FAMILIES = ("other", "sd1", "sdxl")
MAX_LAMBDA = 2048
_WINDOW = 12
_SLUG = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,30}")
_TEXT = re.compile(r"[A-Za-z0-9 .,:;/_()+#={}\[\]-]{1,200}")
_PROMPT = re.compile(r"[A-Za-z0-9 .,:;/_()+#=-]{0,150}\{\}[A-Za-z0-9 .,:;/_()+#=-]{0,150}")
_COMPONENT = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class FederationSpec:
    """The frozen agreement; checked on construction, so every instance is a legal spec.

    ``ranks``: (input width, rank) pairs, ascending, one for each width among ``layers``.
    ``layers``: sorted by path. ``reserved``: words no trigger may be, sorted. ``tables``: for
    ``haar``, (width, SHA-256 of the int16 table) pairs. ``lambda_1024``: the default merge weight.
    ``token_layers``: with layer-wise tokens, where the UNet reads the prompt, in the order in which
    it runs these places (core/token_layers.py); empty, and then not spelt: one set for all of them.
    ``prompt``: asks the base for a picture of ``{}`` in its own style, on cards and for sample
    pictures; the default is not spelt. ``epochs``: of how many bases the ``capacity`` slots are in
    the narrowest layers (core/epochs.py); 1, every slot disjoint from every other, is not spelt.
    """

    name: str
    base: BaseModel
    basis: Family
    seed: bytes
    ranks: tuple[tuple[int, int], ...]
    layers: tuple[Layer, ...]
    encoders: tuple[Encoder, ...]
    capacity: int
    lambda_1024: int = 1024
    exponent_low: int = -28
    exponent_high: int = -16
    limits: Limits = DEFAULT_LIMITS
    reserved: tuple[str, ...] = ()
    tables: tuple[tuple[int, str], ...] = ()
    token_layers: tuple[str, ...] = ()
    prompt: str = PROMPT
    epochs: int = 1

    def __post_init__(self) -> None:
        """Refuse any field out of its bounds, and fields that contradict each other."""
        _check_names(self)
        check_epochs(self.epochs, self.basis, self.layers)
        _check_layers(self)
        _check_numbers(self)
        _check_basis(self)

    @property
    def id(self) -> str:
        """SHA-256 of the canonical bytes, in hex."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def token_sets(self) -> int:
        """How many sets of vectors a trigger has: one a token layer, or one in all."""
        return len(self.token_layers) or 1

    @property
    def disjoint_slots(self) -> int:
        """How many slots, the first ones, share no direction in any layer."""
        return min(self.capacity, slots.capacity(self.layers, dict(self.ranks)))

    def epoch(self, layer: Layer, slot: int) -> int:
        """Return which basis of ``layer`` the slot is of, from 0."""
        return slot // (layer.width // self.layer_rank(layer))

    def rank(self, width: int) -> int:
        """Return the rank of layers with ``width`` inputs. Raises SpecError: no such layer."""
        for known, rank in self.ranks:
            if known == width:
                return rank
        raise bad_spec(f"no rank for width {width}", "the spec has no layer of that width")

    def layer_rank(self, layer: Layer) -> int:
        """Return the rank of every slot in ``layer``."""
        return self.rank(layer.width)

    def to_bytes(self) -> bytes:
        """Return the one spelling of this spec."""
        body: dict[str, object] = {
            "base": _record(self.base),
            "basis": self.basis,
            "capacity": self.capacity,
            "encoders": [_record(encoder) for encoder in self.encoders],
            "exponent_high": self.exponent_high,
            "exponent_low": self.exponent_low,
            "lambda_1024": self.lambda_1024,
            "layers": [_layer_record(layer) for layer in self.layers],
            "limits": _record(self.limits),
            "name": self.name,
            "ranks": [{"rank": rank, "width": width} for width, rank in self.ranks],
            "reserved": list(self.reserved),
            "seed": self.seed.hex(),
            "v": VERSION,
        }
        if self.tables:
            body["tables"] = [{"sha256": digest, "width": width} for width, digest in self.tables]
        if self.token_layers:
            body["token_layers"] = list(self.token_layers)
        if self.prompt != PROMPT:
            body["prompt"] = self.prompt
        if self.epochs != 1:
            body["epochs"] = self.epochs
        return canonical.encode(body)

    @classmethod
    def from_bytes(cls, data: bytes) -> "FederationSpec":
        """Return the spec that ``data`` spells.

        Raises VerificationFailed: bytes that are not canonical, too many, or with fields missing,
        unknown or of a wrong type. Raises SpecError: values out of bounds, or a newer version.
        """
        if len(data) > MAX_SPEC_BYTES:  # T5: size before parsing
            raise VerificationFailed(
                f"a spec of {len(data)} bytes",
                why=f"a spec has at most {MAX_SPEC_BYTES} bytes",
                fix="check the address of the federation",
                code="spec-too-large",
            )
        return cls(**read_spec(canonical.decode(data)))


def plan_spec(  # noqa: PLR0913  # a federation has this many choices
    *,
    name: str,
    base: BaseModel,
    layers: Sequence[Layer],
    encoders: Sequence[Encoder],
    seed: bytes,
    basis: Family = "hadamard",
    rank: int | None = None,
    capacity: int | None = None,
    lambda_1024: int = 1024,
    limits: Limits | None = None,
    reserved: Sequence[str] = (),
    token_layers: Sequence[str] = (),
    prompt: str = PROMPT,
    epochs: int = 1,
) -> FederationSpec:
    """Return a spec with its ranks and capacity worked out.

    Give ``rank`` (the same at every width; capacity follows), or ``capacity`` (rank falls where a
    layer is narrow, up to ``rank`` or 20; method.md 4.2). ``epochs``: of how many bases the slots
    may be; with several, those of two bases overlap (core/overlap.py).

    Raises SpecError: neither fits the layers, the basis family does not take a width (the text
    names the families that do), or it does not take so many epochs.
    """
    widths = sorted({layer.width for layer in layers})
    check_epochs(epochs, basis, layers)
    ranks, num_slots = slots.plan_ranks(layers, rank=rank, slots=capacity, epochs=epochs)
    check_widths(basis, layers)
    return FederationSpec(
        name=name,
        base=base,
        basis=basis,
        seed=seed,
        ranks=tuple(sorted(ranks.items())),
        layers=tuple(sorted(layers)),
        encoders=tuple(encoders),
        capacity=num_slots,
        lambda_1024=lambda_1024,
        limits=DEFAULT_LIMITS if limits is None else limits,
        reserved=tuple(sorted(set(reserved))),
        tables=_table_hashes(seed, widths) if basis == "haar" else (),
        token_layers=tuple(token_layers),
        prompt=prompt,
        epochs=-(-num_slots // slots.capacity(layers, ranks)),
    )


def _table_hashes(seed: bytes, widths: Sequence[int]) -> tuple[tuple[int, str], ...]:
    """Return (width, SHA-256 of T) of every width: T is the operator's (method.md 2.4)."""
    return tuple(
        (m, hashlib.sha256(haar_table(m, seed=seed).astype("<i2").tobytes()).hexdigest())
        for m in widths
    )


def _record(value: BaseModel | Encoder | Limits) -> dict[str, object]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _layer_record(layer: Layer) -> dict[str, object]:
    """Return a layer's fields; what is empty is not spelt, so older specs keep their bytes."""
    body: dict[str, object] = {"out": layer.out, "path": layer.path, "width": layer.width}
    if layer.kernel:
        body["kernel"] = list(layer.kernel)
    if layer.order:
        body["order"] = base64.b64encode(np.array(layer.order, "<u2").tobytes()).decode()
    return body


def _check_names(spec: FederationSpec) -> None:
    """Check every text of the spec."""
    if not _SLUG.fullmatch(spec.name) or len(spec.name) > 31:  # noqa: PLR2004  # security.md 7
        raise bad_spec(
            f"federation name {spec.name[:40]!r}", "it is 3 to 31 of a-z, 0-9 and hyphens"
        )
    if spec.base.family not in BASE_FAMILIES:
        raise bad_spec(f"base family {spec.base.family[:40]!r}", "it is sd1, sdxl or other")
    for text in (spec.base.name, spec.base.revision, spec.base.licence):
        if not _TEXT.fullmatch(text):
            raise bad_spec(
                f"base text {text[:40]!r}", "it goes into file headers: plain ASCII, 1-200"
            )
    if not _PROMPT.fullmatch(spec.prompt):
        raise bad_spec(
            f"the prompt {spec.prompt[:80]!r}",
            "it is plain ASCII with {} once, for the concept, and at most 150 on either side",
        )
    if not is_hex(spec.base.fingerprint):
        raise bad_spec("a base fingerprint that is no SHA-256", "it has 64 lower-case hex digits")
    for word in spec.reserved:
        if not _SLUG.fullmatch(word):
            raise bad_spec(
                f"reserved word {word[:40]!r}", "only words that a trigger could be count"
            )
    if list(spec.reserved) != sorted(set(spec.reserved)):
        raise bad_spec("reserved words out of order", "they are sorted, none twice")


def _check_layers(spec: FederationSpec) -> None:
    """Check layers, ranks and encoders, and that the slots fit."""
    if len(spec.layers) > MAX_LAYERS:
        raise bad_spec(f"{len(spec.layers)} layers", f"a spec has at most {MAX_LAYERS}")
    paths = [layer.path for layer in spec.layers]
    if paths != sorted(set(paths)):
        raise bad_spec("layers out of order", "they are sorted by path, none twice")
    widths = sorted({layer.width for layer in spec.layers})
    if [width for width, _ in spec.ranks] != widths:
        raise bad_spec(
            "ranks that do not match the layers", "each input width has exactly one rank"
        )
    most = slots.capacity(spec.layers, dict(spec.ranks))
    if not (spec.epochs - 1) * most < spec.capacity <= spec.epochs * most:
        raise bad_spec(
            f"capacity {spec.capacity}",
            f"these layers and ranks hold {(spec.epochs - 1) * most + 1} to {spec.epochs * most}"
            " slots" + (f" of {spec.epochs} bases" if spec.epochs > 1 else ""),
        )
    names = [encoder.name for encoder in spec.encoders]
    if not 1 <= len(names) <= MAX_ENCODERS or names != sorted(set(names)):
        raise bad_spec(f"{len(names)} text encoders", "there are one or two, sorted by name")
    for encoder in spec.encoders:
        if not _COMPONENT.fullmatch(encoder.name) or not 1 <= encoder.width <= MAX_WIDTH:
            raise bad_spec(
                f"text encoder {encoder.name[:40]!r}", "its name or width is out of bounds"
            )
    if len(spec.token_layers) > MAX_TOKEN_LAYERS:
        raise bad_spec(
            f"{len(spec.token_layers)} token layers", f"there are {MAX_TOKEN_LAYERS} at most"
        )
    if list(spec.token_layers) != sorted(set(spec.token_layers), key=run_order):
        raise bad_spec("token layers out of order", "they stand as the UNet runs them, none twice")


def _check_numbers(spec: FederationSpec) -> None:
    """Check lambda, the window of exponents and the limits."""
    if not 0 <= spec.lambda_1024 <= MAX_LAMBDA:
        raise bad_spec(f"lambda {spec.lambda_1024}/1024", f"it is 0 to {MAX_LAMBDA} 1024ths")
    low, high = spec.exponent_low, spec.exponent_high
    if not LOWEST <= low <= high <= HIGHEST or high - low != _WINDOW:
        raise bad_spec(
            f"exponents {low} to {high}",
            f"the window spans {_WINDOW + 1} exponents within {LOWEST} to {HIGHEST}",
        )
    for name, (least, most) in LIMIT_BOUNDS.items():
        value = int(getattr(spec.limits, name))
        if not least <= value <= most:
            raise bad_spec(f"{name} = {value}", f"it is {least} to {most}")


def _check_basis(spec: FederationSpec) -> None:
    """Check the seed, and that the family takes every width."""
    if len(spec.seed) != 32:  # noqa: PLR2004  # method.md 2.1
        raise bad_spec(f"a seed of {len(spec.seed)} bytes", "it has 32")
    if spec.basis not in FAMILIES:
        raise bad_spec(f"basis family {spec.basis[:40]!r}", f"it is one of {', '.join(FAMILIES)}")
    check_widths(spec.basis, spec.layers)
    _check_orders(spec)
    widths = [width for width, _ in spec.ranks] if spec.basis == "haar" else []
    if [w for w, _ in spec.tables] != widths or not all(
        is_hex(digest) for _, digest in spec.tables
    ):
        raise bad_spec(
            "table hashes that do not match", "haar has one SHA-256 a width, others none"
        )


def _check_orders(spec: FederationSpec) -> None:
    """Check that an order deals exactly the slots' columns, and that there was a choice."""
    for layer in spec.layers:
        dealt = spec.capacity * spec.layer_rank(layer)
        if layer.order and (
            spec.basis == "gaussian" or len(layer.order) != dealt or dealt == layer.width
        ):
            raise bad_spec(
                f"an order of {len(layer.order)} columns in {layer.path}",
                f"the slots own {dealt} of {layer.width}; an order names those, where some are left"
                " over, and gaussian has none",
            )


def check_widths(basis: Family, layers: Sequence[Layer]) -> None:
    """Refuse widths that ``basis`` does not take, and name the families that take them all.

    Raises SpecError.
    """
    taken: Mapping[Family, set[int]] = {
        "hadamard": {layer.width for layer in layers if supported(layer.width)},
        "haar": {layer.width for layer in layers if layer.width <= MAX_HAAR_WIDTH},
        "gaussian": {layer.width for layer in layers},
    }
    refused = sorted({layer.width for layer in layers} - taken[basis])
    if refused:
        good = [f for f in FAMILIES if taken[f] >= {layer.width for layer in layers}]
        named = next(layer.path for layer in layers if layer.width == refused[0])
        raise SpecError(
            f"basis {basis!r} at width {refused[0]} ({named})",
            why="no Hadamard matrix of that order is known here"
            if basis == "hadamard"
            else f"its table is limited to width {MAX_HAAR_WIDTH}",
            fix=f"choose the basis family {' or '.join(good)}",
            code="width-not-supported",
        )
