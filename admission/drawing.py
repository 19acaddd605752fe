# pyright: basic
# torch and diffusers publish partial types.
"""Draws what a contribution that waits does to pictures, beside the base and the newest release.

Law: all pictures start from the same noise, so a row differs by its columns alone (the table:
core/evidence_picture.py); the base is patched while it draws and never written. Weights are those
that were released, for this one the spec's. Cost: nine pictures of `_STEPS` steps, six before the
first release. Not here: where they are kept (coordinator/evidence.py).
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image

from ..client.base import Base
from ..client.sample import draw
from ..client.score import phrase_of
from ..client.variant import Variant
from ..core.evidence_picture import MOST_SIDE, ROWS, check_evidence, prompt_of
from ..core.spec import FederationSpec
from .measure import Subject

_STEPS: Final = 20
_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Held:
    """One contribution of the newest release, and with how much it was merged."""

    subject: Subject
    lambda_1024: int


def pictures(
    base: Base, spec: FederationSpec, subject: Subject, held: Sequence[Held] | None
) -> dict[str, bytes]:
    """Return the pictures of ``subject`` by name, each a small PNG of pixels alone.

    ``held``: what the newest release holds without it, or whatever it is to take the place of;
    None before the first release.
    """
    before = [_variant(spec, each.subject, each.lambda_1024) for each in held or ()]
    own = _variant(spec, subject, spec.lambda_1024)
    columns = {"base": Variant(token_layers=spec.token_layers)}
    if held is not None:
        columns["without"] = Variant.sum_of(before) if before else columns["base"]
    columns["with"] = Variant.sum_of([*before, own])
    prompts = [prompt_of(row, spec.prompt, [phrase_of(subject.triggers)]) for row in ROWS]
    found = dict[str, bytes]()
    for column, variant in columns.items():
        with variant.applied(base) as tokens:
            rows = draw(base, tokens, prompts, count=1, seed=_SEED, steps=_STEPS)
        for row, (image,) in zip(ROWS, rows, strict=True):
            found[f"{row}-{column}"] = _small(image)
    return found


def _variant(spec: FederationSpec, subject: Subject, lambda_1024: int) -> Variant:
    return Variant.of_contribution(
        spec, subject.slot, subject.triggers, subject.tensors, lambda_=lambda_1024 / 1024
    )


def _small(image: Image.Image) -> bytes:
    small = image.convert("RGB")
    small.thumbnail((MOST_SIDE, MOST_SIDE))
    bare = Image.frombytes("RGB", small.size, small.tobytes())  # T27: without what came with it
    data = io.BytesIO()
    bare.save(data, "PNG", optimize=True)
    check_evidence(data.getvalue())
    return data.getvalue()
