"""Text states that no step changes: kept where the text encoders are left alone, and only there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orthofed.client.cache import MemoryCache
from orthofed.client.cache_size import CacheSize
from orthofed.client.caches import Caches
from orthofed.client.checkpoint import TrainingSaves
from orthofed.client.step import Step
from orthofed.client.text_states import TextStates
from orthofed.client.tokens import LearnedTokens
from orthofed.client.trained import Trained
from orthofed.client.training import identity_of, train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger

from .tiny_concept import NOUN, SETTINGS, Bench, bench
from .tiny_families import tiny_sdxl

TRIGGERS = [Trigger("anna-k7")]
DISK = replace(SETTINGS, cache="disk", caption_dropout=0.5, prior_weight=1.0, prior_images=2)
PROMPTS = ["a photo of a fox", "", "a photo of <stranger-0> <stranger-0>_1", "a red fox"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Make a federation on the UNet alone, once."""
    return bench(tmp_path_factory.mktemp("bench"), targets="unet")


def _train(
    tiny: Bench, folder: Path, settings: TrainingSettings, *, stop_at: int = 0
) -> Trained | None:
    def on_step(step: Step) -> None:
        if step.number == stop_at:
            raise TimeoutError

    parts: Any = (tiny.spec, 0, TRIGGERS, NOUN, tiny.images, settings)
    saves = TrainingSaves(folder / "saves", identity_of(tiny.spec, 0, *parts[2:]))
    caches = Caches.at(folder / "cache", folder / "class", settings)
    try:
        return train(tiny.base, *parts, on_step=on_step, saves=saves, caches=caches)
    except TimeoutError:
        return None


@contextmanager
def _texts(tiny: Bench) -> Iterator[list[int]]:
    """Count the texts that the text encoder runs inside the block, a number a call."""
    seen: list[int] = []

    def plain(_module: object, args: tuple[torch.Tensor, ...]) -> None:
        if args:
            seen.append(len(args[0]))

    handle = tiny.tower.model.register_forward_pre_hook(plain)
    try:
        yield seen
    finally:
        handle.remove()


def _tokens(tiny: Bench) -> LearnedTokens:
    return LearnedTokens.from_noun(tiny.base, TRIGGERS, NOUN, seed=0, strangers=2)


def _made(tiny: Bench, tokens: LearnedTokens, prompts: list[str]) -> TextStates:
    with tokens.attached():
        return TextStates.made(
            *(tiny.base, tiny.spec, tokens, prompts, MemoryCache()), about=("x",), precision="fp32"
        )


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_what_is_kept_is_what_would_be_encoded(kind: str, tiny: Bench, tmp_path: Path) -> None:
    """Mixed with prompts that are not, in any order, twice; pooled vector and sizes follow."""
    one = tiny if kind == "sd1" else bench(tmp_path, tiny_sdxl, targets="unet")
    tokens = _tokens(one)
    texts = _made(one, tokens, PROMPTS)
    asked = [PROMPTS[2], "a fox anna-k7 anna-k7_1", PROMPTS[0], PROMPTS[2], "a blue tree"]
    framings = [replace(one.base.framing(one.base.latent_shape)) for _ in asked]

    with torch.no_grad(), tokens.attached():
        given, expected = texts.encode(asked, framings), tokens.encode(asked, framings)

    assert set(texts.rows) == set(PROMPTS)
    torch.testing.assert_close(given.text, expected.text)
    for mine, theirs in ((given.pooled, expected.pooled), (given.time_ids, expected.time_ids)):
        assert (mine is None) == (theirs is None) == (kind == "sd1")
        if mine is not None:
            torch.testing.assert_close(mine, theirs)


def test_a_prompt_with_a_learned_word_is_never_kept(tiny: Bench) -> None:
    """Its vectors move; a stranger's do not."""
    tokens = _tokens(tiny)

    texts = _made(tiny, tokens, ["a anna-k7 fox", "a anna-k7_1", *PROMPTS])

    assert set(texts.rows) == set(PROMPTS)


def test_nothing_is_kept_where_text_encoders_are_adapted(tmp_path: Path) -> None:
    """Every prompt's states follow A there."""
    usual = bench(tmp_path, targets="attention")

    assert _made(usual, _tokens(usual), PROMPTS).kept is None


def test_a_step_encodes_only_what_it_changes(tiny: Bench, tmp_path: Path) -> None:
    """Behind the first steps the encoder sees prompts with the trigger, and no other."""
    settings = replace(DISK, caption_dropout=0.0)
    with _texts(tiny) as before:
        _train(tiny, tmp_path, settings, stop_at=3)
    with _texts(tiny) as seen:
        trained = _train(tiny, tmp_path, settings)

    assert trained is not None
    assert trained.resumed_at == 3
    assert len(before) > len(seen)
    # One call a step for the captions, and one for the probes; none for public or class prompts.
    assert len(seen) == SETTINGS.steps - 3 + 1


def test_memory_disk_and_a_resumed_run_give_the_same_bits(tiny: Bench, tmp_path: Path) -> None:
    """And the file goes with the run's cache, whose size was known before."""
    plain = _train(tiny, tmp_path / "memory", replace(DISK, cache="memory"))
    _train(tiny, tmp_path / "disk", DISK, stop_at=2)
    foretold = CacheSize.of(tiny.base, tiny.spec, tiny.images, DISK).run_bytes
    kept = sum(path.stat().st_size for path in (tmp_path / "disk" / "cache").iterdir())
    resumed = _train(tiny, tmp_path / "disk", DISK)

    assert plain is not None
    assert resumed is not None
    assert resumed.resumed_at == 2
    for path, a in plain.a.items():
        assert np.array_equal(resumed.a[path], a), path
    for key, rows in plain.embeddings.items():
        assert np.array_equal(resumed.embeddings[key], rows)
    assert resumed.losses == plain.losses
    assert kept <= foretold + 10_000


def test_the_vectors_still_learn(tiny: Bench, tmp_path: Path) -> None:
    """Kept states carry no gradient; those with the trigger do."""
    trained = _train(tiny, tmp_path, SETTINGS)

    assert trained is not None
    start = _tokens(tiny).state()
    for key, rows in trained.embeddings.items():
        assert np.abs(rows - start[key]).max() > 1e-3
