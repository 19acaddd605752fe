"""The parts of a federation's spec, and the bounds that its reader and its rules share.

Law: a part is frozen, and holds text and whole numbers alone, so that it has one spelling. Source:
security.md 4.3 and 5. Not here: which values go together (core/spec.py).
"""

from dataclasses import dataclass

from .errors import SpecError

PROMPT = "a photo of {}"
VERSION = 1
MAX_SPEC_BYTES = 2 << 20
"""Half a MiB of a vocabulary's reserved words, and 1.2 of the order of SDXL's columns."""
MAX_LAYERS = 8192
MAX_RESERVED = 65536
MAX_ENCODERS = 2
MAX_TOKEN_LAYERS = 256
LOWEST, HIGHEST = -40, 0


@dataclass(frozen=True, slots=True)
class Encoder:
    """One text encoder: its component's name and the width of its token embeddings."""

    name: str
    width: int


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The model that everybody adapts; ``fingerprint`` is that of core/fingerprint.py, in hex.

    ``family``: ``sd1``, ``sdxl`` or ``other`` (formats.md 3.1). ``licence``: an SPDX id.
    """

    family: str
    name: str
    revision: str
    fingerprint: str
    licence: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What one member may take; security.md 2 T1 and reliability.md give the reasons."""

    ttl_s: int = 900
    hold_s: int = 86400
    leases_a_day: int = 3
    max_triggers: int = 4
    max_vectors: int = 8
    operator_slots_percent: int = 10


DEFAULT_LIMITS = Limits()
LIMIT_BOUNDS = {
    "ttl_s": (5, 86400),
    "hold_s": (5, 30 * 86400),
    "leases_a_day": (1, 1000),
    "max_triggers": (1, 8),
    "max_vectors": (1, 8),
    "operator_slots_percent": (0, 50),
}


def bad_spec(what: str, why: str) -> SpecError:
    """Return the error for a value of a spec that is out of its bounds."""
    return SpecError(
        what,
        why=why,
        fix="make the federation again with values within these bounds",
        code="bad-spec",
    )
