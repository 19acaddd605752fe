# pyright: basic
# transformers publishes partial types.
"""One text encoder with its tokenizer, under its component's name.

Law: the tokenizer has as many tokens as the table has rows, so that the first added token is the
row after the last; with any other base a learned word would read a wrong row without a word.
"""

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ...core.errors import SpecError


@dataclass(frozen=True, slots=True)
class TextTower:
    """``name`` is the component's: ``text_encoder`` or ``text_encoder_2``."""

    name: str
    tokenizer: CLIPTokenizer
    model: CLIPTextModel | CLIPTextModelWithProjection

    def __post_init__(self) -> None:
        """Check the law. Raises SpecError: tokenizer and table do not belong together."""
        if len(self.tokenizer) != self.vocabulary:
            raise SpecError(
                f"{self.name} has {self.vocabulary} token rows, its tokenizer {len(self.tokenizer)}"
                " tokens",
                why="a learned word's row would not be the one that its id names",
                fix="use the base model with the tokenizer it was made with",
                code="tokenizer-does-not-fit",
            )

    @property
    def table(self) -> nn.Embedding:
        """The token table. It is read and hooked, never written."""
        return cast("nn.Embedding", self.model.get_input_embeddings())

    @property
    def vocabulary(self) -> int:
        """Rows of the table; learned tokens come after them."""
        return int(self.table.weight.shape[0])

    @property
    def width(self) -> int:
        """Width of a row of the table and of the features."""
        return int(self.table.weight.shape[1])

    def ends(self, ids: Tensor) -> Tensor:
        """Return where each row of ``ids`` (n, length) has its first end-of-text token: (n,).

        transformers looks for the largest id where a config says ``eos_token_id`` 2, as SDXL's
        does, and would take the last learned word for the end.
        """
        return ids.eq(cast("int", self.tokenizer.eos_token_id)).int().argmax(dim=-1)
