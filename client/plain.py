"""The modules of a base that a residual can be laid over: plain linear layers and convolutions.

Law: what is attached to a layer answers in its place, from its weight, bias and geometry alone. So
a layer that answers by other means (a patch, a subclass, another residual, groups, another kind of
padding) is refused: those means would be passed over without a word.
"""

from torch import nn

from ..core.errors import SpecError

Target = nn.Linear | nn.Conv2d


def check_plain(target: Target) -> None:
    """Refuse a layer whose answer is not the product of its input with its weight.

    Raises SpecError.
    """
    kind = nn.Linear if isinstance(target, nn.Linear) else nn.Conv2d
    patched = "forward" in vars(target) or type(target).forward is not kind.forward
    if patched or not (isinstance(target, nn.Linear) or _is_plain(target)):
        raise SpecError(
            f"a {type(target).__name__} of shape {tuple(target.weight.shape)} is adapted already, "
            "or is no plain layer",
            why="what it answers with would be passed over without a word",
            fix="lay several residuals over a base with Variant.sum_of, and use an unpatched base",
            code="layer-not-plain",
        )


def _is_plain(target: nn.Conv2d) -> bool:
    """Return whether every output reads every channel, with zeros around the picture."""
    zeros = target.padding_mode == "zeros" and not isinstance(target.padding, str)
    return zeros and target.groups == 1 and type(target)._conv_forward is nn.Conv2d._conv_forward  # noqa: SLF001  # no public name
