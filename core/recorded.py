"""What the leaf of a contribution records, as far as a reader of the ledger alone goes by it.

Law: a client key is one lease's, so it signs one contribution; a second leaf of the same key is
what somebody wrote down again, above all after its owner withdrew it (T4, T15). Each field that a
reader goes by has its type here, so that a damaged leaf is refused and ends no program (T8); the
others, such as a title, are the business of who reads the contribution itself, since what text is
fit to be shown differs between versions. Source: security.md 3 and 4.5. Cost: microseconds a leaf.
Not here: signatures (contribution.py), how it stands (standing.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from .document import from_value
from .fields import Fields, bad_field

_NEED: Final = ("client", "fed", "form", "log", "slot")


@dataclass(frozen=True, slots=True)
class Recorded:
    """Key and ids in hex; ``block``: the slot whose block it is of; ``count``: 0 for none said."""

    client: str
    fed: str
    log: str
    slot: int
    block: int
    count: int
    private: bool

    @classmethod
    def of(cls, leaf: Mapping[str, object]) -> "Recorded":
        """Return what the parsed leaf of a contribution records.

        Raises VerificationFailed ``bad-field``.
        """
        body = from_value(leaf["doc"], kind="contribution").body
        fields = Fields(body, "a contribution manifest", need=_NEED, may=body)
        slot = fields.integer("slot")
        block = slot
        if "share" in fields:
            share = _inner(fields, "share", ("client", "leaf", "sig", "slot", "uses"))
            share.hex("client")
            share.hex("sig", 128)
            share.integer("leaf")
            share.integer("uses", 1)
            block = share.integer("slot")
        if "replaces" in fields:
            before = _inner(fields, "replaces", ("client", "leaf"))
            before.hex("client")
            before.integer("leaf")
        return cls(
            client=fields.hex("client"),
            fed=fields.hex("fed"),
            log=fields.hex("log"),
            slot=slot,
            block=block,
            count=fields.integer("count", 1) if "count" in fields else 0,
            private=fields.one_of("form", ("public", "private")) == "private",
        )


def _inner(fields: Fields, name: str, need: Iterable[str]) -> Fields:
    value = fields.raw(name)
    inside = cast("dict[str, object]", value) if isinstance(value, dict) else None
    of = f"`{name}` of a contribution manifest"
    return Fields(inside, of, need=need, may=inside or ())


def check_once(recorded: Mapping[int, Recorded]) -> None:
    """Refuse a client key that two leaves have.

    Raises VerificationFailed ``bad-field``.
    """
    first: dict[str, int] = {}
    for leaf, each in sorted(recorded.items()):
        if (before := first.setdefault(each.client, leaf)) != leaf:
            raise bad_field(f"leaf {leaf} is a contribution of the client key of leaf {before}")
