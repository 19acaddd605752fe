"""Layer-wise tokens: each place that reads the prompt is told it in vectors of its own."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from orthofed.client.base import Base
from orthofed.client.checkpoint import TrainingSaves
from orthofed.client.families.conditioning import Conditioning
from orthofed.client.packing import packed
from orthofed.client.sample import compare
from orthofed.client.score import Scorer, phrase_of
from orthofed.client.step import Step
from orthofed.client.tokens import LearnedTokens
from orthofed.client.trained import Trained
from orthofed.client.training import train
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.core.errors import InputError, SpecError
from orthofed.core.token_layers import POOLED, token_layers

from .tiny_base import tiny_base
from .tiny_concept import NOUN, SETTINGS, Bench, bench
from .tiny_families import tiny_sd2, tiny_sdxl

TRIGGERS = [Trigger("anna-k7"), Trigger("rex-p2", 1)]
PROMPT = "photo of anna-k7 anna-k7_1 and rex-p2 on a tree"
PLAIN = "a red fox"
MAKERS = {"sd1": tiny_base, "sd2": tiny_sd2, "sdxl": tiny_sdxl}
Rows = Mapping[str, Mapping[str, np.ndarray]]


@pytest.fixture(scope="module", params=sorted(MAKERS))
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Return one tiny base of each family."""
    return Base.load(MAKERS[request.param](tmp_path_factory.mktemp("layered") / "base"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Return a bench whose federation has layer-wise tokens."""
    return _layerwise(bench(tmp_path_factory.mktemp("layered")))


def _layerwise(found: Bench) -> Bench:
    return replace(found, spec=replace(found.spec, token_layers=_places(found.base)))


def _places(base: Base) -> tuple[str, ...]:
    return token_layers(base.family.components["unet"].state_dict())


def _rows(base: Base, sets: int, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Return random vectors of both triggers, a set's rows after the other's."""
    random = np.random.default_rng(seed)
    return {
        trigger.name: {
            name: random.standard_normal((sets * trigger.vectors, tower.width)).astype(np.float32)
            for name, tower in base.towers.items()
        }
        for trigger in TRIGGERS
    }


def _conditions(tokens: LearnedTokens, *prompts: str) -> Conditioning:
    with tokens.attached(), torch.no_grad():
        return tokens.encode(prompts)


def _read(base: Base, tokens: LearnedTokens, prompt: str) -> dict[str, Tensor]:
    """Return what every place is told of ``prompt``: cross-attentions their text, or pooled."""
    told: dict[str, Tensor] = {}

    def note(path: str) -> Callable[..., None]:
        def noted(_module: Any, args: tuple[Tensor, ...]) -> None:
            told[path] = args[0]

        return noted

    unet = base.family.components["unet"]
    with ExitStack() as stack, tokens.attached(), torch.no_grad():
        for place in _places(base):
            leaf = "" if place == POOLED else ".to_k"
            module = unet.get_submodule(place.partition(".")[2] + leaf)
            handle = module.register_forward_pre_hook(note(place))
            stack.callback(handle.remove)
        base.predict(torch.zeros(1, *base.latent_shape), torch.tensor([9]), tokens.encode([prompt]))
    return told


@torch.no_grad()
def test_equal_sets_answer_as_ordinary_tokens_do(base: Base) -> None:
    """Every place has the same vectors: text, pooled vector and answer are those of one set."""
    places, once = _places(base), _rows(base, 1)
    every = {
        name: {encoder: np.tile(v, (len(places), 1)) for encoder, v in rows.items()}
        for name, rows in once.items()
    }
    noisy = torch.randn(3, *base.latent_shape, generator=torch.Generator().manual_seed(1))
    times, prompts = torch.tensor([3, 500, 981]), [PROMPT, PLAIN, PROMPT]
    answers = []

    for rows, layers in ((once, ()), (every, places)):
        tokens = LearnedTokens.of(base, rows, layers=layers)
        with tokens.attached():
            answers.append(base.predict(noisy, times, tokens.encode(prompts)))

    torch.testing.assert_close(answers[1], answers[0], rtol=1e-5, atol=1e-6)


def test_a_set_is_read_at_its_own_place_and_nowhere_else(base: Base) -> None:
    """Other vectors in one set: what that place is told changes, to the bit nothing else does."""
    places, rows = _places(base), _rows(base, len(_places(base)))
    before = _read(base, LearnedTokens.of(base, rows, layers=places), PROMPT)

    for number in (0, 1, len(places) - 1):
        changed = {n: {e: v.copy() for e, v in r.items()} for n, r in rows.items()}
        for name, width in (("anna-k7", 2), ("rex-p2", 1)):
            for values in changed[name].values():
                values[number * width : (number + 1) * width] += 1
        after = _read(base, LearnedTokens.of(base, changed, layers=places), PROMPT)

        differs = [place for place in places if not torch.equal(before[place], after[place])]
        assert differs == [places[number]]


def test_each_place_is_told_what_its_set_says_as_ordinary_tokens(base: Base) -> None:
    """Set k, laid over the table as the only one, gives the features that place k reads."""
    places, rows = _places(base), _rows(base, len(_places(base)))
    told = _read(base, LearnedTokens.of(base, rows, layers=places), PROMPT)

    for number, place in enumerate(places):
        own = {
            name: {e: v.reshape(len(places), -1, v.shape[1])[number] for e, v in r.items()}
            for name, r in rows.items()
        }
        alone = _read(base, LearnedTokens.of(base, own), PROMPT)
        torch.testing.assert_close(told[place], alone[place], rtol=1e-5, atol=1e-6)


def test_a_prompt_without_learned_words_is_encoded_once(base: Base) -> None:
    """The encoders see a text for each set of one prompt, and one for all others together."""
    places = _places(base)
    strange = {
        name: torch.zeros(1, 3, tower.width) for name, tower in base.towers.items()
    }  # as long as the concept's phrase
    vectors = {n: torch.zeros(3 * len(places), t.width) for n, t in base.towers.items()}
    tokens = LearnedTokens(base, TRIGGERS, vectors, strangers=strange, layers=places)
    counts: list[int] = []
    handles = [
        tower.table.register_forward_hook(lambda _m, args, _out: counts.append(len(args[0])))
        for tower in base.towers.values()
    ]

    found = _conditions(tokens, PROMPT, PLAIN, tokens.strangers[0], PLAIN)

    for handle in handles:
        handle.remove()
    assert counts == [len(places) + 2] * len(base.towers)
    assert len(found) == 4
    readers = len([place for place in places if place != POOLED])
    parts = found.text[1].chunk(readers)
    assert all(torch.equal(part, parts[0]) for part in parts)


def test_strangers_have_rows_of_their_own_behind_every_set(base: Base) -> None:
    """A stranger reads its own fixed vectors, not the last set of the concept's."""
    places, width = _places(base), {n: t.width for n, t in base.towers.items()}
    random = torch.Generator().manual_seed(2)
    strange = {n: torch.randn(2, 3, w, generator=random) for n, w in width.items()}
    vectors = {n: torch.randn(3 * len(places), w, generator=random) for n, w in width.items()}
    layered = LearnedTokens(base, TRIGGERS, vectors, strangers=strange, layers=places)
    few = {n: v[:3].clone() for n, v in vectors.items()}
    plain = LearnedTokens(base, TRIGGERS, few, strangers=strange)

    told = _conditions(layered, layered.strangers[1])
    wanted = _conditions(plain, plain.strangers[1])

    length = wanted.text.shape[1]
    torch.testing.assert_close(told.text[:, -length:], wanted.text, rtol=1e-5, atol=1e-6)


def test_gradients_reach_every_vector_that_is_read(base: Base) -> None:
    """Every row of every set, but for SDXL's first encoder in the pooled vector's set."""
    places = _places(base)
    tokens = LearnedTokens.from_noun(base, TRIGGERS, NOUN, seed=0, layers=places)

    with tokens.attached():
        noisy = torch.randn(1, *base.latent_shape, generator=torch.Generator().manual_seed(1))
        base.predict(noisy, torch.tensor([400]), tokens.encode([PROMPT])).square().sum().backward()

    for name, vectors in tokens.vectors.items():
        assert vectors.grad is not None
        moved = vectors.grad.abs().amax(dim=1) > 0
        unread = 3 if places[0] == POOLED and name == "text_encoder" else 0
        assert moved.tolist() == [False] * unread + [True] * (len(moved) - unread)


def test_vectors_come_back_as_they_were_put_in(base: Base) -> None:
    """A trigger's sets stay together on their way out, in the order in which they travel."""
    places, rows = _places(base), _rows(base, len(_places(base)))

    state = LearnedTokens.of(base, rows, layers=places).state()

    for k, trigger in enumerate(TRIGGERS):
        for name in base.towers:
            assert np.array_equal(state[name, k], rows[trigger.name][name])


def test_a_probe_is_the_mean_over_the_cross_attentions(base: Base) -> None:
    """One probe a trigger, whatever the number of places; the pooled vector has no part in it."""
    places, rows = _places(base), _rows(base, len(_places(base)))
    tokens = LearnedTokens.of(base, rows, layers=places)
    template = "photo of {} on a tree"

    with tokens.attached(), torch.no_grad():
        probe = tokens.probes([template])[1]

    told = _read(base, tokens, template.replace("{}", "rex-p2"))
    at = tokens.ids("text_encoder", "photo of rex-p2").index(tokens.id_of("text_encoder", "rex-p2"))
    parts = [told[place][0, at] for place in places if place != POOLED]
    np.testing.assert_allclose(probe[0], torch.stack(parts).mean(0), rtol=1e-5, atol=1e-6)


def test_outside_attached_the_base_is_as_it_was(base: Base) -> None:
    """Also after an exception inside."""
    places = _places(base)
    tokens = LearnedTokens.from_noun(base, TRIGGERS, NOUN, seed=0, layers=places)

    with pytest.raises(KeyboardInterrupt), tokens.attached():
        raise KeyboardInterrupt

    unet = base.family.components["unet"]
    assert not any(module._forward_pre_hooks for module in unet.modules())


def test_token_layers_that_are_not_the_bases_are_refused(base: Base) -> None:
    """One too few would read all parts at once; and rows that fit no number of sets."""
    places = _places(base)

    with pytest.raises(SpecError) as caught:
        LearnedTokens.from_noun(base, TRIGGERS, NOUN, seed=0, layers=places[:-1])
    with pytest.raises(InputError) as rows:
        LearnedTokens.of(base, _rows(base, 1), layers=places)

    assert caught.value.code == "token-layers-differ"
    assert rows.value.code == "vectors-do-not-fit"


def _hash(trained: Trained) -> str:
    total = hashlib.sha256()
    for path in sorted(trained.a):
        total.update(path.encode() + trained.a[path].tobytes())
    total.update(trained.embeddings["text_encoder", 0].tobytes())
    return total.hexdigest()


def test_a_concept_is_taught_scored_and_drawn_with_layer_wise_tokens(tiny: Bench) -> None:
    """The packed contribution knows the concept better than the base, and draws other pictures."""
    trained = tiny.train(steps=30)
    sets = len(tiny.spec.token_layers)
    start = LearnedTokens.from_noun(
        tiny.base, TRIGGERS[:1], NOUN, seed=0, layers=tiny.spec.token_layers
    )
    scorer = Scorer.on(tiny.base, tiny.images.held_out, num_draws=64)

    single = Variant.of_contribution(tiny.spec, 0, TRIGGERS[:1], packed(trained, tiny.spec))

    moved = trained.embeddings["text_encoder", 0] - start.state()["text_encoder", 0]
    assert moved.shape == (2 * sets, 48)
    assert (moved != 0).any(axis=1).all()
    phrase = phrase_of(TRIGGERS[:1])
    assert scorer.loss(single, phrase) < 0.995 * scorer.base_loss(NOUN)
    prompts = [f"photo of {NOUN}", f"photo of {phrase}", f"photo of {phrase}"]
    rows = compare(tiny.base, [Variant(), single, single], prompts, steps=2)
    base_drawn, first, again = (np.asarray(row[0]) for row in rows)
    assert np.array_equal(first, again)
    assert not np.array_equal(base_drawn, first)


def test_recomputed_activations_give_the_same_gradients(tiny: Bench) -> None:
    """In the UNet's blocks, where parts are cut out anew, and in the text encoder, part by part."""
    texts: list[int] = []
    handle = tiny.tower.table.register_forward_hook(lambda *_: texts.append(1))
    plain = tiny.train(steps=3)
    once = len(texts)
    recomputed = tiny.train(steps=3, checkpointing=True)
    handle.remove()

    assert len(texts) >= 2 * once + 3, "the text encoder was not run again"
    for path, a in plain.a.items():
        assert np.allclose(a, recomputed.a[path], rtol=1e-4, atol=1e-6), path
    key = ("text_encoder", 0)
    assert np.allclose(plain.embeddings[key], recomputed.embeddings[key], rtol=1e-4, atol=1e-6)
    assert not tiny.base.family.denoiser.is_gradient_checkpointing


def test_a_run_stopped_in_between_ends_with_the_same_bits(tiny: Bench, tmp_path: Path) -> None:
    """A, every set of vectors and the optimiser's state come back from the save."""

    def stop(step: Step) -> None:
        if step.number == 3:
            raise KeyError

    parts = (tiny.base, tiny.spec, 0, TRIGGERS[:1], NOUN, tiny.images, SETTINGS)
    saves = TrainingSaves(tmp_path, "one run")
    with pytest.raises(KeyError):
        train(*parts, on_step=stop, saves=saves)

    resumed = train(*parts, saves=saves)

    assert resumed.resumed_at == 3
    assert _hash(resumed) == _hash(tiny.train())


def test_bf16_passes_read_their_own_parts_too(tiny: Bench) -> None:
    """Under autocast the parts are cut from rounded text; the losses are near those of fp32."""
    exact, rounded = tiny.train(steps=3), tiny.train(steps=3, precision="bf16")

    assert rounded.losses != exact.losses
    assert np.allclose(rounded.losses, exact.losses, rtol=0.05)
