"""One concept is taught: it learns, it is deterministic, the base is not changed."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from orthofed.client.base import Base
from orthofed.client.cache import MemoryCache
from orthofed.client.captioned import filled
from orthofed.client.dataset import ConceptImages
from orthofed.client.planned_states import PlannedStates
from orthofed.client.public_states import PublicStates, public_prompts
from orthofed.client.score import Scorer, phrase_of
from orthofed.client.tokens import LearnedTokens, noun_vector
from orthofed.client.trained import Trained
from orthofed.client.training import train
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Residual, Variant
from orthofed.core.basis import block
from orthofed.core.errors import OrthoFedError

from .tiny_concept import NOUN, SETTINGS, Bench, bench, write_images

if TYPE_CHECKING:
    from orthofed.client.step import Step

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
    encode, prompts = LearnedTokens.of(tiny.base, {}).encode, ["a red fox", "a cat on a tree"]
    plan = PlannedStates.sampled(tiny.base, encode, prompts, count=4, steps=3, seed=99)
    public = PublicStates.made([plan], MemoryCache(), "other")

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
    plan = PlannedStates.sampled(tiny.base, tokens.encode, prompts, count=2, steps=3, seed=0)
    public = PublicStates.made([plan], MemoryCache(), "some")

    with torch.no_grad():
        features = tokens.encode(public.prompts)
        answers = tiny.base.predict(public.noisy, public.timesteps, features)

    torch.testing.assert_close(answers, public.answers)
    assert len(public.noisy) == len(public.prompts) == 6
    assert all("{}" not in prompt for prompt in prompts)


def test_progress_counts_every_step_and_the_time_left_ends_at_zero(tiny: Bench) -> None:
    """Between steps the run says how far it is and how long it will take."""
    seen: list[Step] = []

    train(
        tiny.base,
        tiny.spec,
        0,
        TRIGGERS,
        NOUN,
        tiny.images,
        SETTINGS,
        on_step=seen.append,
    )

    assert [(step.number, step.steps) for step in seen] == [(n, 6) for n in range(1, 7)]
    assert all(np.isfinite(step.loss) and step.seconds_left >= 0 for step in seen)
    assert all(step.null_loss >= 0 for step in seen)
    assert seen[-1].null_loss > 1e-9 > seen[0].null_loss  # A starts at zero: the base answers
    assert seen[-1].seconds_left == 0


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


def test_noised_states_are_the_owners_images_asked_for_others_of_the_class(tiny: Bench) -> None:
    """Each image at every part of the schedule, half for the noun, half for invented triggers."""
    tokens = LearnedTokens.from_noun(tiny.base, TRIGGERS, NOUN, seed=0, strangers=2)
    latents = tiny.base.latents([item.image for item in tiny.images.train])
    captions = filled(tiny.images.train, "{}")
    phrases = (NOUN, *tokens.strangers)

    with tokens.attached(), torch.no_grad():
        plan = PlannedStates.noised(
            tiny.base,
            tokens.encode,
            latents,
            captions,
            [item.framing for item in tiny.images.train],
            phrases=phrases,
            each=4,
            seed=0,
        )
        public = PublicStates.made([plan], MemoryCache(), "noised")
        features = tokens.encode(public.prompts)
        answers = tiny.base.predict(public.noisy, public.timesteps, features)

    assert len(public.noisy) == len(public.prompts) == 4 * len(latents)
    said = [sum(phrase in prompt for prompt in public.prompts) for phrase in phrases]
    assert said == [2 * len(latents), len(latents), len(latents)]
    assert not any("anna-k7" in prompt for prompt in public.prompts)
    torch.testing.assert_close(answers, public.answers, rtol=1e-4, atol=1e-5)


def test_a_concept_trained_beside_strangers_leaves_a_new_trigger_alone(tiny: Bench) -> None:
    """It answers less to triggers that it has never seen than one trained without strangers."""
    start = noun_vector(tiny.base.towers["text_encoder"], NOUN).numpy()
    random = np.random.default_rng(5)
    spread = 4 * np.sqrt(np.square(start).mean())
    vectors = {
        f"bodo-x{k}": {
            "text_encoder": (start + spread * random.standard_normal((2, 48))).astype(np.float32)
        }
        for k in range(8)
    }
    latents = tiny.base.latents([item.image for item in tiny.images.held_out])
    noisy = torch.randn(8, *latents.shape[1:], generator=torch.Generator().manual_seed(1))
    times = torch.full((8,), tiny.base.num_timesteps // 2)
    prompts = [f"a picture of {name} {name}_1" for name in vectors]

    def answer(variant: Variant) -> torch.Tensor:
        with variant.applied(tiny.base) as tokens, torch.no_grad():
            return tiny.base.predict(noisy, times, tokens.encode(prompts))

    def response(strangers: int) -> float:
        trained = tiny.train(steps=40, null_weight=30.0, null_states=12, strangers=strangers)
        adapted = Variant(_single(tiny, trained).residuals, vectors)
        return (answer(adapted) - answer(Variant({}, vectors))).square().mean().item()

    assert response(16) < 0.9 * response(0)


def test_gradients_of_several_passes_make_one_step(tiny: Bench) -> None:
    """Twice four images a step is one step's worth of eight; only the order of sums differs."""
    half = tiny.train(steps=1, batch=4, accumulation=2, warmup_steps=0, null_weight=0.0)
    once = tiny.train(steps=2, batch=4, warmup_steps=0, null_weight=0.0, schedule="constant")

    assert len(half.losses) == 1
    assert half.losses[0] == pytest.approx(np.mean(once.losses), rel=0.2)
    assert half.losses[0] != once.losses[0]


def test_recomputing_activations_changes_no_result(tiny: Bench) -> None:
    """Less memory and the same A; afterwards the base is as it was."""
    plain, recomputed = tiny.train(), tiny.train(checkpointing=True)

    for path, a in plain.a.items():
        assert np.allclose(a, recomputed.a[path], rtol=1e-4, atol=1e-6), path
    assert not tiny.base.family.denoiser.is_gradient_checkpointing


def test_bf16_passes_train_fp32_factors(tiny: Bench) -> None:
    """The passes are rounded, A and the vectors are not; the result is near that of fp32."""
    exact, rounded = tiny.train(), tiny.train(precision="bf16")

    path = next(iter(exact.a))
    assert rounded.a[path].dtype == np.float32
    assert rounded.losses != exact.losses
    assert np.allclose(rounded.losses, exact.losses, rtol=0.05)


def test_images_of_many_shapes_with_masks_train_together(tmp_path: Path, tiny: Bench) -> None:
    """Wide and square images, one with a mask: each pass has one shape, silence is kept in each."""
    folder = write_images(tmp_path / "images", 8)
    for number in (0, 2):
        Image.new("RGB", (60, 30), "red").save(folder / f"{number:02}.png")
    Image.new("L", (20, 20), 255).save(folder / "01-masklabel.png")
    base = tiny.base
    images = ConceptImages.load(folder, size=base.image_size, noun=NOUN, step=base.image_step)
    shapes = {item.image.size for item in images.train}

    trained = train(base, tiny.spec, 0, TRIGGERS, NOUN, images, SETTINGS)

    assert len(shapes) == 2
    assert all(np.isfinite(trained.losses))


def test_what_a_mask_leaves_out_is_hardly_learnt(tmp_path: Path, tiny: Bench) -> None:
    """The same images with their right halves masked away give another A."""
    folder = write_images(tmp_path / "images", 8)
    base = tiny.base
    plain = ConceptImages.load(folder, size=base.image_size, noun=NOUN)
    mask = Image.new("L", (20, 20))
    mask.paste(255, (0, 0, 10, 20))
    for number in range(8):
        mask.save(folder / f"{number:02}-masklabel.png")
    masked = ConceptImages.load(folder, size=base.image_size, noun=NOUN)

    results = [
        train(base, tiny.spec, 0, TRIGGERS, NOUN, images, SETTINGS) for images in (plain, masked)
    ]

    path = next(iter(results[0].a))
    assert not np.allclose(results[0].a[path], results[1].a[path])
    assert plain.digest != masked.digest
