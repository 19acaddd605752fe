"""The methods of the study: what each trains, and how its concepts become one model.

``side`` and ``blocks`` say what moves beside the tokens; ``tokens``: learnt (two vectors), layered
(P+, two vectors at each place) or frozen (as they start, near the noun). ``null``: how
many times its weight the trainer's null-response term has; most rows have none of it, so that the
paper's comparison stands without it.
Names are those of results and plots.
"""

from dataclasses import dataclass
from typing import Literal

Side = Literal["none", "lora", "frozen", "frozen_up"]
Tokens = Literal["learnt", "layered", "frozen"]
Merge = Literal["sum", "fusion", "refit", "ties", "dare"]

FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""On the trainer's rates: those that a recipe's best one is looked for among."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one concept is trained. ``same_seed``: a LoRA's random side starts alike for all."""

    side: Side
    blocks: str = ""
    tokens: Tokens = "learnt"
    same_seed: bool = False
    null: float = 0.0


@dataclass(frozen=True, slots=True)
class Method:
    """A recipe and what is done with what it gave.

    ``below``: how many of the rates that are tried lie between the recipe's best one alone and this
    method's. What learns more slowly learns less, and leaves more alone.
    """

    recipe: str
    merge: Merge = "sum"
    below: int = 0


RECIPES = {
    "tokens": Recipe("none"),
    "tokens_layered": Recipe("none", tokens="layered"),
    "dreambooth": Recipe("lora", tokens="frozen"),
    "lora": Recipe("lora"),
    "lora_same_seed": Recipe("lora", same_seed=True),
    "gaussian": Recipe("frozen", "gaussian"),
    "haar_draw": Recipe("frozen", "haar_draw"),
    "haar": Recipe("frozen", "haar"),
    "hadamard": Recipe("frozen", "hadamard"),
    "hadamard_width": Recipe("frozen", "hadamard_width"),
    "epochs": Recipe("frozen", "epochs"),
    "quiet": Recipe("frozen", "quiet"),
    "complement": Recipe("frozen", "complement"),
    "equal": Recipe("frozen", "equal"),
    "half": Recipe("frozen", "half"),
    "loudest": Recipe("frozen", "loudest"),
    "frozen_up": Recipe("frozen_up", "hadamard"),
    "hadamard_tokens_frozen": Recipe("frozen", "hadamard", tokens="frozen"),
    "lora_null": Recipe("lora", null=1.0),
    "equal_null": Recipe("frozen", "equal", null=1.0),
    "hadamard_null": Recipe("frozen", "hadamard", null=1.0),
    "epochs_null": Recipe("frozen", "epochs", null=1.0),
    "complement_null": Recipe("frozen", "complement", null=1.0),
    "hadamard_null5": Recipe("frozen", "hadamard", null=5.0),
    "lora_null5": Recipe("lora", null=5.0),
}
_SLOWLY = (
    "hadamard",
    "lora",
    "haar_draw",
    "hadamard_null",
    "equal_null",
    "lora_null",
    "epochs_null",
    "complement_null",
    "hadamard_null5",
)
METHODS = {
    **{name: Method(name) for name in RECIPES},
    "lora_fusion": Method("lora", "fusion"),
    "lora_refit": Method("lora", "refit"),
    "lora_null_refit": Method("lora_null", "refit"),
    "equal_null_refit": Method("equal_null", "refit"),
    "hadamard_refit": Method("hadamard", "refit"),
    "hadamard_null_refit": Method("hadamard_null", "refit"),
    "epochs_null_refit": Method("epochs_null", "refit"),
    **{f"{name}_slow": Method(name, below=1) for name in _SLOWLY},
    "hadamard_null_slow_refit": Method("hadamard_null", "refit", below=1),
    "lora_ties": Method("lora", "ties"),
    "lora_dare": Method("lora", "dare"),
}
