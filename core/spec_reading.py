"""Reads the body of a federation's spec, field by field: types and sizes, before any rule.

Law: unknown fields are refused, and a default that is not spelt may not be spelt either, so one
spec has one id; a newer version is told apart from a broken one. Source: security.md 4.1 and 4.3.
Not here: the one spelling that is written, and the rules that the values keep (core/spec.py).
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import fields
from typing import TypedDict, cast

import numpy as np

from .basis import FAMILIES, Family
from .epochs import MAX_EPOCHS
from .errors import SpecError
from .fields import Fields, bad_field
from .layer import MAX_WIDTH, Layer
from .spec_parts import (
    HIGHEST,
    LIMIT_BOUNDS,
    LOWEST,
    MAX_ENCODERS,
    MAX_LAYERS,
    MAX_RESERVED,
    MAX_TOKEN_LAYERS,
    PROMPT,
    VERSION,
    BaseModel,
    Encoder,
    Limits,
    bad_spec,
)

_ORDER_CHARACTERS = 4 * (2 * MAX_WIDTH + 2) // 3
_FIELDS = (
    "base", "basis", "capacity", "encoders", "exponent_high", "exponent_low", "lambda_1024",
    "layers", "limits", "name", "ranks", "reserved", "seed", "v",
)  # fmt: skip


def _check_version(value: object) -> None:
    """Tell a newer spec from a broken one, so that an old client says what to do."""
    body = value  # keeps its declared type when the next line narrows the other name
    names = cast("dict[str, object]", value) if isinstance(value, dict) else ()
    version = Fields(body, "a spec", need=("v",), may=names).integer("v")
    if version != VERSION:
        raise SpecError(
            f"a spec of version {version}, this orthofed reads {VERSION}",
            why="the federation was made by another version",
            fix="upgrade orthofed on this machine",
            code="spec-version",
        )


class SpecArguments(TypedDict):
    """The constructor's arguments, as read."""

    name: str
    base: BaseModel
    basis: Family
    seed: bytes
    ranks: tuple[tuple[int, int], ...]
    layers: tuple[Layer, ...]
    encoders: tuple[Encoder, ...]
    capacity: int
    lambda_1024: int
    exponent_low: int
    exponent_high: int
    limits: Limits
    reserved: tuple[str, ...]
    tables: tuple[tuple[int, str], ...]
    token_layers: tuple[str, ...]
    prompt: str
    epochs: int


def read_spec(value: object) -> SpecArguments:
    """Return the fields of a spec's body; the constructor checks what they say.

    Raises VerificationFailed: fields missing, unknown or of a wrong type. Raises SpecError: a newer
    version.
    """
    _check_version(value)
    body = Fields(value, "a spec", need=_FIELDS, may=("epochs", "prompt", "tables", "token_layers"))
    ranks = [
        Fields(item, "a rank", need=("rank", "width"))
        for item in body.items("ranks", most=MAX_LAYERS)
    ]
    tables = [
        Fields(item, "a table", need=("sha256", "width"))
        for item in (body.items("tables", least=1, most=MAX_LAYERS) if "tables" in body else [])
    ]
    basis = body.one_of("basis", FAMILIES)
    return SpecArguments(
        name=body.text("name"),
        base=_read_base(body.raw("base")),
        basis=next(family for family in FAMILIES if family == basis),
        seed=bytes.fromhex(body.hex("seed")),
        ranks=tuple((item.integer("width"), item.integer("rank")) for item in ranks),
        layers=tuple(_read_layer(item) for item in body.items("layers", most=MAX_LAYERS)),
        encoders=tuple(_read_encoder(item) for item in body.items("encoders", most=MAX_ENCODERS)),
        capacity=body.integer("capacity"),
        lambda_1024=body.integer("lambda_1024"),
        exponent_low=body.integer("exponent_low", LOWEST, HIGHEST),
        exponent_high=body.integer("exponent_high", LOWEST, HIGHEST),
        limits=_read_limits(body.raw("limits")),
        reserved=_read_words(body.items("reserved", most=MAX_RESERVED)),
        tables=tuple((item.integer("width"), item.hex("sha256")) for item in tables),
        token_layers=_read_words(
            body.items("token_layers", least=1, most=MAX_TOKEN_LAYERS)
            if "token_layers" in body
            else []
        ),
        prompt=_read_prompt(body),
        epochs=body.integer("epochs", 2, MAX_EPOCHS) if "epochs" in body else 1,
    )


def _read_prompt(body: Fields) -> str:
    """Return the prompt; the default is not spelt, so that one spec has one spelling."""
    prompt = body.text("prompt") if "prompt" in body else PROMPT
    if "prompt" in body and prompt == PROMPT:
        raise bad_field("`prompt` of a spec spells the default")
    return prompt


def _read_base(value: object) -> BaseModel:
    body = Fields(value, "a base", need=[field.name for field in fields(BaseModel)])
    return BaseModel(
        family=body.text("family"),
        name=body.text("name"),
        revision=body.text("revision"),
        fingerprint=body.hex("fingerprint"),
        licence=body.text("licence"),
    )


def _read_layer(value: object) -> Layer:
    body = Fields(value, "a layer", need=("out", "path", "width"), may=("kernel", "order"))
    return Layer(
        path=body.text("path"),
        out=body.integer("out"),
        width=body.integer("width"),
        kernel=_read_kernel(body) if "kernel" in body else (),
        order=_read_order(body) if "order" in body else (),
    )


def _read_kernel(body: Fields) -> tuple[int, int]:
    height, width = body.items("kernel", least=2, most=2)
    if type(height) is not int or type(width) is not int:
        raise bad_field("`kernel` of a layer is not two integers")
    return height, width


def _read_order(body: Fields) -> tuple[int, ...]:
    """Return the columns: base64 of little-endian u16, in the one spelling that is written."""
    text = body.text("order", most=_ORDER_CHARACTERS)
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise bad_field("`order` of a layer is not base64") from error
    if not raw or len(raw) % 2 or base64.b64encode(raw).decode() != text:
        raise bad_field("`order` of a layer is not base64 of 16-bit numbers")
    return tuple(int(column) for column in np.frombuffer(raw, "<u2"))


def _read_encoder(value: object) -> Encoder:
    body = Fields(value, "an encoder", need=("name", "width"))
    return Encoder(name=body.text("name"), width=body.integer("width"))


def _read_limits(value: object) -> Limits:
    body = Fields(value, "limits", need=LIMIT_BOUNDS)
    return Limits(**{name: body.integer(name) for name in LIMIT_BOUNDS})


def _read_words(items: Sequence[object]) -> tuple[str, ...]:
    words = tuple(item for item in items if isinstance(item, str))
    if len(words) != len(items):
        raise bad_spec(
            "a word or path that is no text", "reserved words and token layers are texts"
        )
    return words
