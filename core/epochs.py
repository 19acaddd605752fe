"""Further bases, for federations that need more concepts than there are disjoint slots.

    in a layer of K = floor(m / r) slots:  slot u is slot u mod K of epoch floor(u / K)
    epoch E >= 1 hashes the path ``path#E``

An epoch of a layer is the K slots of one O. K is the layer's own: a wide layer holds more slots
without overlap than the narrowest, and none overlap there before it is full. Laws: slots of one
epoch share no direction, exactly; of two epochs one hears r / m of the other in the mean
(core/overlap.py). ``hadamard`` alone: ``haar`` has one O a width, and ``gaussian`` none. Source:
method.md 2.5, docs/adr/0035. Not here: the blocks themselves (core/spec_blocks.py).
"""

from collections.abc import Iterable

from .basis import Family, epoch_layer
from .errors import SpecError
from .layer import Layer

MAX_EPOCHS = 16
"""In a full layer of E epochs each concept hears E - 1 times its own energy of others: 15 is more
than any base bears. With E <= 16 sums stay below 2^58 at every width, so no merge refuses."""
_LONGEST_PATH = 255


def check_epochs(epochs: int, family: Family, layers: Iterable[Layer]) -> None:
    """Refuse a number of epochs that this basis or these layers cannot have.

    Raises SpecError: below 1 or above 16; above 1 with another basis than ``hadamard``, with quiet
    columns, or with a layer whose path leaves no room for the epoch's number.
    """
    if not 1 <= epochs <= MAX_EPOCHS:
        raise _refused(
            f"{epochs} bases (epochs)",
            f"a federation has 1 to {MAX_EPOCHS}",
            f"ask for 1 to {MAX_EPOCHS}, or for a smaller rank, which gives more disjoint slots",
        )
    if epochs == 1:
        return
    if family != "hadamard":
        raise _refused(
            f"{epochs} bases of the family {family!r}",
            "it has one matrix for all layers of a width, so there is no further one"
            if family == "haar"
            else "its slots overlap in any case, so a further basis changes nothing",
            "choose the basis hadamard, or leave the overlap out",
        )
    if any(layer.order for layer in layers):
        raise _refused(
            f"{epochs} bases with quiet columns",
            "columns were listened to in the first basis alone, and concepts of the others would"
            " be louder than was planned",
            "leave either the overlap or the quiet columns out",
        )
    longest = max((layer.path for layer in layers), key=len, default="")
    if len(epoch_layer(longest, epochs - 1)) > _LONGEST_PATH:
        raise _refused(
            f"{epochs} bases of a layer whose path has {len(longest)} characters",
            f"with the number of its basis a path has {_LONGEST_PATH} at most",
            "leave the overlap out",
        )


def _refused(what: str, why: str, fix: str) -> SpecError:
    return SpecError(what, why=why, fix=fix, code="bad-overlap")
