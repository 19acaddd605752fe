"""One concept is taught: it learns, it is deterministic, the base is not changed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from orthofed.client.base import Base
from orthofed.client.dataset import filled
from orthofed.client.public_states import PublicStates, public_prompts
from orthofed.client.score import Scorer, phrase_of
from orthofed.client.tokens import LearnedTokens, Trigger
from orthofed.client.training import Trained, train
from orthofed.client.variant import Residual, Variant
from orthofed.core.basis import block
from orthofed.core.errors import OrthoFedError

from .tiny_concept import NOUN, SETTINGS, Bench, bench

TRIGGERS = [Trigger("anna-k7")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("training"))


def _single(tiny: Bench, trained: Trained) -> Variant:
    residuals = {
        layer.path: Residual(
            trained.a[layer.path],
            block(
                tiny.spec.basis,
                seed=tiny.spec.seed,
                layer=layer.path,
                width=layer.width,
                rank=tiny.spec.layer_rank(layer),
                slot=0,
            ).T.copy(),
        )
        for layer in tiny.spec.layers
    }
    return Variant(residuals, {"anna-k7": {"text_encoder": trained.embeddings["text_encoder", 0]}})


def test_training_lowers_the_loss_on_images_it_has_not_seen(tiny: Bench) -> None:
    """Thirty steps of a tiny model: the held-out loss falls below the base's."""
    scorer = Scorer.on(tiny.base, tiny.images.held_out, num_draws=64)

    trained = tiny.train(steps=30)

    single = scorer.loss(_single(tiny, trained), phrase_of(TRIGGERS))
    assert single < 0.995 * scorer.base_loss(NOUN)
    assert len(trained.losses) == 30


def test_every_layer_and_every_vector_is_trained(tiny: Bench) -> None:
    """Text encoder and UNet, each A moves from zero; each vector moves from the noun."""
    trained = tiny.train()
    start = LearnedTokens.from_noun(tiny.base, TRIGGERS, NOUN, seed=0).state()["text_encoder", 0]

    assert set(trained.a) == {layer.path for layer in tiny.spec.layers}
    assert all(np.abs(a).max() > 0 for a in trained.a.values())
    assert (trained.embeddings["text_encoder", 0] != start).any(axis=1).all()
    assert trained.probes[0].shape == (4, 48)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tiny: Bench) -> None:
    """Whatever else drew from the global generators in between."""
    first = tiny.train()
    torch.manual_seed(999)
    np.random.default_rng()

    again, other = tiny.train(), tiny.train(seed=1)

    assert all(np.array_equal(a, again.a[path]) for path, a in first.a.items())
    assert not any(np.array_equal(a, other.a[path]) for path, a in first.a.items())


def test_the_base_keeps_every_bit(tiny: Bench) -> None:
    """Training reads the base; its weights and its token rows are written by nobody."""
    parts = (*tiny.base.family.components.values(), tiny.base.vae)
    before = [{k: v.clone() for k, v in part.state_dict().items()} for part in parts]

    tiny.train(rate=0.1, token_rate=0.1)

    for part, state in zip(parts, before, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in part.state_dict().items())
        assert all(p.grad is None for p in part.parameters())


def test_the_null_response_term_keeps_the_concept_silent_on_public_prompts(tiny: Bench) -> None:
    """With the term, the adapted model's answer on other public states is nearer to the base's."""
    public = PublicStates.sampled(
        tiny.base,
        LearnedTokens.of(tiny.base, {}).encode,
        ["a red fox", "a cat on a tree"],
        count=4,
        steps=3,
        seed=99,
    )

    def deviation(trained: Trained) -> float:
        with _single(tiny, trained).applied(tiny.base) as tokens, torch.no_grad():
            features = tokens.encode(public.prompts)
            answer = tiny.base.predict(public.noisy, public.timesteps, features)
        return (answer - public.answers).square().mean().item()

    loud = deviation(tiny.train(steps=20, null_weight=0.0))
    quiet = deviation(tiny.train(steps=20, null_weight=100.0))

    assert quiet < 0.5 * loud


def test_public_states_are_what_the_base_answers(tiny: Bench) -> None:
    """Each kept answer is the base's own at that state, and no prompt names the concept."""
    tokens = LearnedTokens.of(tiny.base, {})
    prompts = public_prompts([item.caption for item in tiny.images.train], NOUN)
    public = PublicStates.sampled(tiny.base, tokens.encode, prompts, count=2, steps=3, seed=0)

    with torch.no_grad():
        features = tokens.encode(public.prompts)
        answers = tiny.base.predict(public.noisy, public.timesteps, features)

    torch.testing.assert_close(answers, public.answers)
    assert len(public.noisy) == len(public.prompts) == 6
    assert all("{}" not in prompt for prompt in prompts)


def test_progress_counts_every_step_and_the_time_left_ends_at_zero(tiny: Bench) -> None:
    """on_step(step, steps, loss, seconds_left) between steps."""
    seen: list[tuple[int, int, float, float]] = []

    train(
        tiny.base,
        tiny.spec,
        0,
        TRIGGERS,
        NOUN,
        tiny.images,
        SETTINGS,
        on_step=lambda *facts: seen.append(facts),
    )

    assert [(step, steps) for step, steps, _, _ in seen] == [(n, 6) for n in range(1, 7)]
    assert all(np.isfinite(loss) and left >= 0 for _, _, loss, left in seen)
    assert seen[-1][3] == 0


def test_a_diverging_training_stops_with_advice(tiny: Bench) -> None:
    """An answer that is no number: the step is named, and nothing goes on to be uploaded."""
    spoilt = Base.load(tiny.base.folder)
    for parameter in spoilt.family.components["unet"].get_submodule("conv_out").parameters():
        parameter.data.fill_(torch.nan)

    with pytest.raises(OrthoFedError, match="the loss at step 1 is nan") as caught:
        replace(tiny, base=spoilt).train()

    assert caught.value.code == "training-diverged"


def test_jittered_images_are_more_to_train_on(tiny: Bench) -> None:
    """Shifted copies change what is learnt and nothing else: shapes and steps are the same."""
    plain, jittered = tiny.train(), tiny.train(jitters=3)

    assert {p: a.shape for p, a in plain.a.items()} == {p: a.shape for p, a in jittered.a.items()}
    assert plain.losses != jittered.losses


def test_noised_states_are_the_owners_images_asked_for_any_of_the_class(tiny: Bench) -> None:
    """Each image at every part of the schedule, with the base's own answer to the class noun."""
    tokens = LearnedTokens.of(tiny.base, {})
    latents = tiny.base.latents([item.image for item in tiny.images.train])
    prompts = filled(tiny.images.train, NOUN)

    public = PublicStates.noised(tiny.base, tokens.encode, latents, prompts, each=3, seed=0)

    assert len(public.noisy) == len(public.prompts) == 3 * len(latents)
    assert all(NOUN in prompt for prompt in public.prompts)
    with torch.no_grad():
        features = tokens.encode(public.prompts)
        answers = tiny.base.predict(public.noisy, public.timesteps, features)
    torch.testing.assert_close(answers, public.answers, rtol=1e-4, atol=1e-5)
