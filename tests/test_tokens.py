"""Learned tokens: a copy of the tokenizer, rows of our own, a base table that never changes."""

import numpy as np
import pytest
import torch

from orthofed.client.tokens import LearnedTokens, noun_vector
from orthofed.client.trigger import Trigger
from orthofed.core.errors import InputError

from .tiny_concept import NOUN, Bench, bench

TRIGGER = Trigger("anna-k7")
ENCODER = "text_encoder"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("tokens"))


def test_a_trigger_is_one_token_a_vector_and_words_around_it_stay(tiny: Bench) -> None:
    """`anna-k7 anna-k7_1` are two ids after the vocabulary; the base's tokenizer is untouched."""
    tokens = LearnedTokens.from_noun(tiny.base, [TRIGGER], NOUN, seed=0)
    first = tiny.tower.vocabulary

    ids = tokens.ids(ENCODER, f"photo of {tokens.phrase} on a tree")

    plain = tiny.tower.tokenizer("photo of on a tree").input_ids
    assert [i for i in ids[: len(plain) + 2] if i < first] == plain
    assert [i for i in ids if i >= first] == [first, first + 1]
    assert first not in tiny.tower.tokenizer("anna-k7").input_ids
    assert len(ids) == tiny.tower.tokenizer.model_max_length


def test_vectors_start_at_the_class_noun_and_differ_a_little(tiny: Bench) -> None:
    """Equal vectors would get equal gradients for ever; far ones would lose the meaning."""
    tokens = LearnedTokens.from_noun(tiny.base, [TRIGGER], NOUN, seed=0)
    noun = noun_vector(tiny.tower, NOUN)

    rows = tokens.vectors[ENCODER].detach()

    assert not torch.equal(rows[0], rows[1])
    assert (rows - noun).norm(dim=1).max() < 0.05 * noun.norm()
    again = LearnedTokens.from_noun(tiny.base, [TRIGGER], NOUN, seed=0)
    assert torch.equal(again.vectors[ENCODER], tokens.vectors[ENCODER])


def test_only_our_rows_get_a_gradient_and_the_base_keeps_its_bits(tiny: Bench) -> None:
    """A big optimiser step on the vectors: the base's table is the same, prompts without us too."""
    tokens = LearnedTokens.from_noun(tiny.base, [TRIGGER], NOUN, seed=0)
    table = tiny.tower.table.weight
    before, plain = table.clone(), tokens.encode(["a red fox"]).text

    with tokens.attached():
        tokens.encode([f"photo of {tokens.phrase}", "a red fox"]).text.square().sum().backward()
        torch.optim.AdamW(tokens.parameters(), lr=1.0).step()
        after = tokens.encode(["a red fox"]).text

    assert tokens.vectors[ENCODER].grad is not None
    assert table.grad is None
    assert torch.equal(table, before)
    assert torch.equal(after, plain)


def test_a_word_sees_its_own_row(tiny: Bench) -> None:
    """Rows put in by name are the rows that the text encoder reads, in every place."""
    rows = np.stack([np.full(48, 0.5, np.float32), np.full(48, -0.5, np.float32)])
    tokens = LearnedTokens.of(tiny.base, {"anna-k7": {ENCODER: rows}})
    ids = torch.tensor([tokens.ids(ENCODER, "anna-k7_1 a anna-k7")])

    with tokens.attached():
        seen = tiny.tower.table(ids)[0]

    assert torch.equal(seen[1], torch.full((48,), -0.5))
    assert torch.equal(seen[3], torch.full((48,), 0.5))
    assert torch.equal(seen[2], tiny.tower.table.weight[ids[0, 2]])


def test_a_trigger_that_is_a_word_of_the_base_is_refused(tiny: Bench) -> None:
    """It would change what every prompt with that word means."""
    with pytest.raises(InputError) as caught:
        LearnedTokens.from_noun(tiny.base, [Trigger("fox</w>")], NOUN, seed=0)

    assert caught.value.code == "trigger-is-a-word"


def test_an_empty_class_noun_is_refused(tiny: Bench) -> None:
    """There would be nothing to start from."""
    with pytest.raises(InputError, match="class noun"):
        noun_vector(tiny.tower, " ")


def test_vectors_of_another_text_encoder_are_refused(tiny: Bench) -> None:
    """The width of the embeddings is not the base's."""
    with pytest.raises(InputError) as caught:
        LearnedTokens.of(tiny.base, {"anna-k7": {ENCODER: np.zeros((2, 768), np.float32)}})

    assert caught.value.code == "vectors-do-not-fit"
