"""Words of the base that no trigger may be."""

from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.core.vocabulary import reserved_words


def test_only_whole_words_that_a_slug_could_spell_are_reserved() -> None:
    """Parts of words, short ones, capitals and punctuation are no triggers anyway."""
    vocabulary = ["fox</w>", "fox", "ox</w>", "Fox</w>", "t-shirt</w>", "-x-</w>", "caf\u00e9</w>"]

    assert reserved_words(vocabulary) == ("fox", "t-shirt")
    assert reserved_words(["a" * 31 + "</w>", "b" * 32 + "</w>"]) == ("a" * 31,)


@settings(derandomize=True, deadline=None)
@given(st.permutations(["cat</w>", "dog</w>", "ant</w>", "cat</w>"]))
def test_the_order_of_the_vocabulary_does_not_matter(vocabulary: list[str]) -> None:
    """The spec's bytes depend on it."""
    assert reserved_words(vocabulary) == ("ant", "cat", "dog")
