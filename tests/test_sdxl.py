"""One concept on a base with two text encoders, from training to a picture and a merged LoRA."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from PIL import Image
from safetensors.numpy import load_file, save_file

from orthofed.client.augment import augmented
from orthofed.client.checkpoint import TrainingSaves
from orthofed.client.dataset import ConceptImages
from orthofed.client.draws import generator
from orthofed.client.packing import packed, vectors_of
from orthofed.client.sample import compare
from orthofed.client.score import Scorer, phrase_of
from orthofed.client.step import Step
from orthofed.client.trained import Trained
from orthofed.client.training import identity_of, train
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.core.errors import InputError
from orthofed.core.layout import ContributionLayout, pack, unpack
from orthofed.core.merge import Term, residual
from orthofed.core.quantise import dequantise

from .member import random_blob
from .tiny_concept import NOUN, SETTINGS, Bench, bench, tiny_spec, write_images
from .tiny_families import tiny_sdxl
from .tiny_release import block_of, write_release

TRIGGERS = [Trigger("anna-k7"), Trigger("anna-q3", 1)]
EULER = pytest.mark.filterwarnings(  # diffusers' scheduler, with numpy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
UNUSED = "text_encoder.text_model.encoder.layers.2."
"""The first encoder speaks through the layer before its last."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("sdxl"), tiny_sdxl)


@pytest.fixture(scope="module")
def trained(tiny: Bench) -> Trained:
    settings = replace(SETTINGS, steps=25)
    return train(tiny.base, tiny.spec, 1, TRIGGERS, NOUN, tiny.images, settings)


def test_every_layer_that_feeds_the_answer_is_trained(tiny: Bench, trained: Trained) -> None:
    """UNet and both encoders but for the unused layer; vectors of both triggers in both."""
    moved = {path for path, a in trained.a.items() if np.abs(a).max() > 0}

    assert set(trained.a) == {layer.path for layer in tiny.spec.layers}
    assert set(trained.a) - moved == {p for p in trained.a if p.startswith(UNUSED)}
    assert len(set(trained.a) - moved) == 4
    widths = {"text_encoder": 48, "text_encoder_2": 80}
    assert {key: rows.shape for key, rows in trained.embeddings.items()} == {
        (name, k): (vectors, width)
        for name, width in widths.items()
        for k, vectors in enumerate((2, 1))
    }
    assert {k: probe.shape for k, probe in trained.probes.items()} == {0: (4, 128), 1: (4, 128)}


def test_what_is_sent_is_what_scores(tiny: Bench, trained: Trained) -> None:
    """Quantised, packed, read back: the model of those integers is better on unseen images."""
    layout = ContributionLayout(tiny.spec, vectors_of(TRIGGERS))
    blob = pack(layout, packed(trained, tiny.spec))
    scorer = Scorer.on(tiny.base, tiny.images.held_out, num_draws=64)

    single = Variant.of_contribution(tiny.spec, 1, TRIGGERS, unpack(layout, blob))

    assert scorer.loss(single, phrase_of(TRIGGERS)) < 0.995 * scorer.base_loss(NOUN)


def test_a_stopped_training_goes_on_to_the_same_bits(tiny: Bench, tmp_path: Path) -> None:
    """Layers without moments are saved and restored like the others."""
    arguments = (tiny.base, tiny.spec, 0, TRIGGERS, NOUN, tiny.images, SETTINGS)
    identity = identity_of(tiny.spec, 0, TRIGGERS, NOUN, tiny.images, SETTINGS)
    saves = TrainingSaves(tmp_path, identity)
    whole = train(*arguments)

    def stop(step: Step) -> None:
        if step.number == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        train(*arguments, saves=saves, on_step=stop)
    resumed = train(*arguments, saves=saves)

    assert resumed.resumed_at == 3
    assert all(np.array_equal(a, resumed.a[path]) for path, a in whole.a.items())
    assert all(np.array_equal(v, resumed.embeddings[k]) for k, v in whole.embeddings.items())


def test_every_image_is_trained_on_with_its_own_sizes(tiny: Bench, tmp_path: Path) -> None:
    """Wide, small, shifted, mirrored: the six numbers in a pass are those of its images' cuts.

    Images that the base drew are whole; the owner's, asked for others of the class, keep their own.
    """
    folder = write_images(tmp_path / "images", 8)
    Image.new("RGB", (60, 30), "red").save(folder / "00.png")
    Image.new("RGB", (30, 41), "red").save(folder / "01.png")
    base, told = tiny.base, list[tuple[int, ...]]()
    images = ConceptImages.load(folder, size=base.image_size, noun=NOUN, step=base.image_step)
    settings = replace(SETTINGS, jitters=2, flip=True, steps=12)
    hook = base.family.denoiser.register_forward_pre_hook(
        lambda _module, _args, given: told.extend(
            tuple(int(x) for x in row) for row in given["added_cond_kwargs"]["time_ids"]
        ),
        with_kwargs=True,
    )

    with hook:
        train(base, tiny.spec, 0, TRIGGERS, NOUN, images, settings)

    cuts = [item.framing.numbers for item in augmented(images.train, settings)]
    side = (base.image_size, base.image_size)
    assert (30, 60) in {numbers[:2] for numbers in cuts}
    assert {numbers[2:4] for numbers in cuts} > {(0, 0)}
    sampled = {(*item.size[::-1], 0, 0, *item.size[::-1]) for item in images.train}
    assert set(told) == {*cuts, *sampled}
    assert (*side, 0, 0, *side) in sampled


def _pictures(pipeline: Any, prompt: str, noise: torch.Tensor) -> np.ndarray:
    images = pipeline(
        prompt, latents=noise, num_inference_steps=3, guidance_scale=4.0, output_type="np"
    ).images
    return (images[0] * 255).round().astype("uint8")


@EULER
def test_a_picture_of_the_base_is_the_pipelines_own(tiny: Bench) -> None:
    """Guidance with a zeroed empty prompt, pooled vectors and sizes: the same pixels."""
    pipeline = DiffusionPipeline.from_pretrained(tiny.base.folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, *tiny.base.latent_shape, generator=generator(5, "compare"))

    ((ours,),) = compare(tiny.base, [Variant()], ["a red fox"], seed=5, steps=3)

    theirs = _pictures(pipeline, "a red fox", noise)
    assert np.abs(np.asarray(ours).astype(int) - theirs).max() <= 1


@EULER
def test_a_concept_changes_its_own_picture(tiny: Bench, trained: Trained) -> None:
    """From quantised tensors to pixels, with both encoders' words."""
    single = Variant.of_contribution(tiny.spec, 1, TRIGGERS, packed(trained, tiny.spec))

    rows = compare(
        tiny.base,
        [Variant(), single],
        [f"photo of {NOUN}", f"photo of {phrase_of(TRIGGERS)}"],
        steps=3,
    )

    assert np.asarray(rows[0][0]).tobytes() != np.asarray(rows[1][0]).tobytes()


@pytest.mark.parametrize("family", ["other", "sdxl"])
def test_the_stacked_lora_in_diffusers_equals_the_dense_merge(
    tiny: Bench, tmp_path: Path, family: str
) -> None:
    """Two concepts at lambda 0.6, UNet and both encoders, under diffusers' and LDM names."""
    spec, lambda_1024 = tiny_spec(tiny.base.folder, family=family), 614
    layout = ContributionLayout(spec, (2,))
    contributions = [
        (slot, name, unpack(layout, random_blob(spec, (2,), seed=slot, size=0.02)))
        for slot, name in enumerate(("anna-k7", "rex-p2"))
    ]
    release = write_release(tmp_path, spec, contributions, lambda_1024=lambda_1024, dtype="F32")
    pipeline: Any = DiffusionPipeline.from_pretrained(tiny.base.folder, local_files_only=True)

    pipeline.load_lora_weights(release / "lora", weight_name="tiny-r0001.safetensors")
    pipeline.fuse_lora(components=["unet", "text_encoder", "text_encoder_2"])
    pipeline.unload_lora_weights()

    for layer in spec.layers:
        component, _, inside = layer.path.partition(".")
        terms = [
            Term(t[f"a.{layer.path}"].q, t[f"a.{layer.path}"].exponent, lambda_1024, block)
            for slot, _, t in contributions
            for block in [block_of(spec, layer.path, slot)]
        ]
        delta = residual(terms, family=spec.basis, width=layer.width, out=layer.out)
        dense = tiny.base.layer(layer.path).weight.double().numpy() + delta
        path = inside.removeprefix("text_model.") if component == "text_encoder" else inside
        fused = getattr(pipeline, component).get_submodule(path).weight.detach().double().numpy()
        assert np.abs(fused - dense).max() <= 1e-5 * np.abs(delta).max(), layer.path

    merged = Variant.of_release(release, spec, lambda_=614 / 1024)
    for _, name, tensors in contributions:
        for encoder, rows in merged.vectors[name].items():
            assert np.array_equal(rows, dequantise(tensors[f"embed.{encoder}.0"]))


def test_an_embedding_file_of_one_encoder_alone_is_refused(tiny: Bench, tmp_path: Path) -> None:
    """`clip_l` only: half of the concept would be missing without a word."""
    layout = ContributionLayout(tiny.spec, (2,))
    tensors = unpack(layout, random_blob(tiny.spec, (2,), seed=0, size=0.02))
    release = write_release(tmp_path, tiny.spec, [(0, "anna-k7", tensors)])
    path = release / "embeddings" / "anna-k7.safetensors"
    save_file({"clip_l": load_file(path)["clip_l"]}, path)

    with pytest.raises(InputError) as caught:
        Variant.of_release(release, tiny.spec)

    assert caught.value.code == "release-unusable"
    assert "clip_g" in caught.value.what
