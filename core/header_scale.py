"""The scale that diffusers' own header asks for, which no other program reads (formats.md 5.4).

``lora_adapter_metadata`` is a JSON object with ``<component>.r`` and ``<component>.lora_alpha``.
Law: what is not one plain scale for each component is None, never a guess. Cost: linear.
"""

import json
from collections.abc import Mapping
from typing import Final, cast

ADAPTER_METADATA: Final = "lora_adapter_metadata"
_ODD: Final = ("alpha_pattern", "rank_pattern", "use_dora", "use_rslora")
_MOST: Final = 2**53


def header_scales(metadata: Mapping[str, str]) -> Mapping[str, float] | None:
    """Return alpha / r by component, empty where the header asks for nothing.

    >>> header_scales({"lora_adapter_metadata": '{"unet.lora_alpha":8,"unet.r":4}'})
    {'unet': 2.0}
    """
    try:
        said = json.loads(metadata.get(ADAPTER_METADATA, "{}"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    body, found = cast("dict[str, object]", said), dict[str, float]()
    for key, value in body.items():
        component, _, field = key.rpartition(".")
        if field in _ODD and value:
            return None
        if field == "lora_alpha":
            alpha, rank = _number(value), _number(body.get(f"{component}.r"))
            if alpha is None or rank is None or rank < 1:
                return None
            found[component] = alpha / rank
    return found


def _number(value: object) -> float | None:
    """Return a plain finite number, None for anything else; a comparison with NaN is False."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -_MOST < value < _MOST else None
