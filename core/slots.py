"""How many concepts fit, which columns a slot owns, and what a contribution weighs.

    capacity = min over layers of floor(m / r),    slot t owns columns t r .. t r + r - 1

Law: two slots of one basis of a layer never share a column. Rank may fall where a layer is narrow,
since the narrowest one sets the capacity: r(m) = min(r_max, 4 floor(m / 4K)), fixed in the spec.
Source: method.md 2.1, 4.1 and 4.2. Cost: one pass over the layers.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from .errors import SpecError
from .layer import Layer

DEFAULT_RANK = 20
"""arXiv 2312.02432, section 4."""


def columns(slot: int, rank: int) -> range:
    """Return the positions in O's order that ``slot`` owns at ``rank``.

    >>> columns(2, 4)
    range(8, 12)

    Raises SpecError: a negative slot or a rank below 1.
    """
    if slot < 0 or rank < 1:
        raise SpecError(
            f"slot {slot} at rank {rank}",
            why="slots count from 0 and own at least one column",
            fix="give a slot of 0 or more and a rank of 1 or more",
            code="bad-slot",
        )
    return range(slot * rank, (slot + 1) * rank)


def capacity(layers: Sequence[Layer], ranks: Mapping[int, int]) -> int:
    """Return the number of disjoint slots; ``ranks`` maps each input width to its rank.

    >>> capacity([Layer("a", 8, 320), Layer("b", 8, 768)], {320: 20, 768: 20})
    16

    Raises SpecError: no layers, a width without rank, or a rank that exceeds its width.
    """
    if not layers:
        raise SpecError(
            "no layers to adapt",
            why="a concept needs at least one linear layer",
            fix="use a base model whose UNet or text encoder has attention layers",
            code="no-layers",
        )
    narrowest = min(layer.width for layer in layers)
    for layer in layers:
        rank = ranks.get(layer.width, 0)
        if not 1 <= rank <= layer.width:
            raise SpecError(
                f"rank {rank} over {len(layers)} layers",
                why=f"{layer.path} has {layer.width} columns, the narrowest {narrowest}",
                fix=f"choose a rank from 1 to {narrowest}",
                code="rank-does-not-fit",
            )
    return min(layer.width // ranks[layer.width] for layer in layers)


def ranks_for(widths: Iterable[int], *, capacity: int, max_rank: int) -> dict[int, int]:
    """Return the rank of each width so that ``capacity`` slots fit, at most ``max_rank``.

    >>> ranks_for([320, 640, 768, 1280], capacity=64, max_rank=20)
    {320: 4, 640: 8, 768: 12, 1280: 20}

    Source: method.md 4.2. Raises SpecError: a width is too narrow for so many slots.
    """
    if capacity < 1 or max_rank < 1:
        raise SpecError(
            f"capacity {capacity} at rank {max_rank}",
            why="both count from 1",
            fix="give a capacity and a rank of at least 1",
            code="bad-capacity",
        )
    ranks = {m: min(max_rank, 4 * (m // (4 * capacity))) for m in sorted(set(widths))}
    for width, rank in ranks.items():
        if rank < 1:
            raise SpecError(
                f"{capacity} slots of at least 4 columns in a layer of {width}",
                why=f"{width} columns hold {width // 4} such slots",
                fix=f"ask for at most {width // 4} slots, or give a rank instead",
                code="capacity-does-not-fit",
            )
    return ranks


def plan_ranks(
    layers: Sequence[Layer], *, rank: int | None, slots: int | None, epochs: int = 1
) -> tuple[dict[int, int], int]:
    """Return the rank of each width, and the number of slots.

    Give ``rank`` (the same at every width; the slots follow), or ``slots`` (rank falls where a
    layer is narrow, up to ``rank``). A rank that is not given is 20. In the narrowest layers the
    slots are of ``epochs`` bases (core/epochs.py), of fewer where fewer suffice.

    >>> plan_ranks([Layer("a", 8, 320), Layer("b", 8, 768)], rank=None, slots=32)
    ({320: 8, 768: 20}, 32)
    >>> plan_ranks([Layer("a", 8, 320), Layer("b", 8, 768)], rank=None, slots=32, epochs=2)
    ({320: 20, 768: 20}, 32)

    Raises SpecError: no layers, or neither fits them.
    """
    widths, most = sorted({layer.width for layer in layers}), DEFAULT_RANK if rank is None else rank
    if slots is None:
        ranks = dict.fromkeys(widths, most)
        return ranks, epochs * capacity(layers, ranks)
    ranks = ranks_for(widths, capacity=-(-slots // epochs), max_rank=most)
    capacity(layers, ranks)  # refuses an empty list
    return ranks, slots


def upload_bytes(layers: Sequence[Layer], ranks: Mapping[int, int]) -> int:
    """Return the bytes of one contribution's A tensors: two for each entry."""
    return 2 * sum(layer.out * ranks[layer.width] for layer in layers)


def check_disjoint(owned: Iterable[range]) -> None:
    """Refuse column ranges of one layer that overlap.

    Raises SpecError: two slots would share a direction.
    """
    for first, second in pairwise(sorted(owned, key=lambda r: (r.start, r.stop))):
        if second.start < first.stop:
            raise SpecError(
                f"columns {second.start}..{second.stop - 1} are leased twice",
                why=f"{first.start}..{first.stop - 1} already belong to another slot",
                fix="give each concept a slot of its own",
                code="slots-overlap",
            )
