"""The methods of the study: what each trains, and how its concepts become one model.

``side`` and ``blocks`` say what moves beside the tokens; ``tokens``: learnt (two vectors), layered
(P+, two vectors at each place) or frozen (as they start, near the noun). ``null``: the weight of
the null-response term; most rows have none of it, so that the paper's comparison stands without it.
Names are those of results and plots.
"""

from dataclasses import dataclass, replace
from typing import Literal

Side = Literal["none", "lora", "frozen", "frozen_up"]
Tokens = Literal["learnt", "layered", "frozen"]
Merge = Literal["sum", "fusion", "refit", "ties", "dare"]

FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""On the trainer's rates: those that a recipe's best one is looked for among."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one concept is trained. ``same_seed``: a LoRA's random side starts alike for all.

    ``strangers``: invented triggers of the null-response term; -1: as many as the trainer has.
    ``words``: how many times the trainer's rate the words have, where a side learns beside them.
    """

    side: Side
    blocks: str = ""
    tokens: Tokens = "learnt"
    same_seed: bool = False
    null: float = 0.0
    strangers: int = -1
    words: float = 1.0


@dataclass(frozen=True, slots=True)
class Method:
    """A recipe and what is done with what it gave.

    ``below``: how many of the rates that are tried lie between the recipe's best one alone and this
    method's. What learns more slowly learns less, and leaves more alone.
    """

    recipe: str
    merge: Merge = "sum"
    below: int = 0


_PLAIN = {
    "tokens": Recipe("none"),
    "tokens_layered": Recipe("none", tokens="layered"),
    "dreambooth": Recipe("lora", tokens="frozen"),
    "lora": Recipe("lora"),
    "lora_same_seed": Recipe("lora", same_seed=True),
    "gaussian": Recipe("frozen", "gaussian"),
    "haar_draw": Recipe("frozen", "haar_draw"),
    "haar": Recipe("frozen", "haar"),
    "hadamard": Recipe("frozen", "hadamard"),
    "hadamard_layered": Recipe("frozen", "hadamard", tokens="layered"),
    "hadamard_width": Recipe("frozen", "hadamard_width"),
    "epochs": Recipe("frozen", "epochs"),
    "quiet": Recipe("frozen", "quiet"),
    "complement": Recipe("frozen", "complement"),
    "equal": Recipe("frozen", "equal"),
    "half": Recipe("frozen", "half"),
    "loudest": Recipe("frozen", "loudest"),
    "frozen_up": Recipe("frozen_up", "hadamard"),
    "hadamard_tokens_frozen": Recipe("frozen", "hadamard", tokens="frozen"),
}
_NULLS = {
    "hadamard": (10, 50, 100),
    "hadamard_layered": (10, 50),
    "lora": (10, 50),
    "equal": (10,),
    "epochs": (10,),
    "complement": (10,),
}
RECIPES = _PLAIN | {
    f"{name}_null{weight}": replace(_PLAIN[name], null=float(weight))
    for name, weights in _NULLS.items()
    for weight in weights
}
RECIPES |= {
    f"{name}_words_{much}": replace(_PLAIN[name], words=times)
    for name in ("hadamard", "equal")
    for much, times in (("third", 1 / 3), ("thrice", 3.0))
}
RECIPES["hadamard_null50_strangers"] = replace(RECIPES["hadamard_null50"], strangers=128)
_SLOWLY = (
    "hadamard",
    "lora",
    "haar_draw",
    "hadamard_null10",
    "hadamard_null50",
    "hadamard_null100",
    "hadamard_null50_strangers",
    "hadamard_layered_null10",
    "hadamard_layered_null50",
    "equal_null10",
    "epochs_null10",
    "complement_null10",
)
METHODS = {
    **{name: Method(name) for name in RECIPES},
    "lora_fusion": Method("lora", "fusion"),
    "lora_refit": Method("lora", "refit"),
    "lora_null10_refit": Method("lora_null10", "refit"),
    "equal_null10_refit": Method("equal_null10", "refit"),
    "hadamard_refit": Method("hadamard", "refit"),
    "hadamard_null10_refit": Method("hadamard_null10", "refit"),
    **{f"{name}_slow": Method(name, below=1) for name in _SLOWLY},
    "hadamard_null10_slow_refit": Method("hadamard_null10", "refit", below=1),
    "hadamard_null50_slow_refit": Method("hadamard_null50", "refit", below=1),
    "lora_ties": Method("lora", "ties"),
    "lora_dare": Method("lora", "dare"),
}
