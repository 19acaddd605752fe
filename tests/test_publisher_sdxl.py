"""A federation on a base with two text encoders: what is planned, released, and how it loads."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from safetensors import safe_open
from safetensors.numpy import load_file

from orthofed.client.base import Base
from orthofed.client.drawing import Drawing
from orthofed.client.sample import sample
from orthofed.client.variant import Variant
from orthofed.core.layout import ContributionLayout, unpack
from orthofed.core.quantise import Quantised, dequantise
from orthofed.core.spec import Encoder, FederationSpec

from .serving import Running, founded, running
from .tiny_families import tiny_sd2, tiny_sdxl

LAMBDA = 614
PROMPT = "a photo of anna-k7 on a tree"  # diffusers puts all vectors in its place


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two concepts, released at 0.6."""
    with running(founded(tmp_path_factory.mktemp("fed"), make=tiny_sdxl)) as coordinator:
        for seed, (concept, trigger, vectors) in enumerate(
            [("anna", "anna-k7", 2), ("rex", "rex-p2", 1)]
        ):
            member = coordinator.member()
            lease = member.lease(concept, (trigger,), vectors=(vectors,))
            packed = member.pack(lease, seed=seed, size=0.05)
            member.contribute(packed)
            coordinator.packs.append(packed)
        coordinator.release(LAMBDA)
        yield coordinator


def _spec(coordinator: Running) -> FederationSpec:
    return coordinator.house.facts.spec


def _release(coordinator: Running) -> Path:
    return coordinator.folder.releases / "1"


def _tensors(coordinator: Running) -> list[dict[str, Quantised]]:
    spec = _spec(coordinator)
    return [
        unpack(ContributionLayout(spec, packed.lease.vectors), packed.blob)
        for packed in coordinator.packs
    ]


def _opened(folder: Path) -> Any:
    return DiffusionPipeline.from_pretrained(folder, local_files_only=True)


def test_all_three_components_are_planned(filled: Running) -> None:
    """UNet and both encoders, their widths, and a contribution that has a place for each."""
    spec = _spec(filled)

    counts = {
        component: sum(layer.path.startswith(f"{component}.") for layer in spec.layers)
        for component in ("unet", "text_encoder", "text_encoder_2")
    }

    # transformers a depth: down 2 x (1 + 2), mid 2, up 3 x (2 + 1); eight projections each
    assert counts == {"unet": 8 * (6 + 2 + 9), "text_encoder": 12, "text_encoder_2": 12}
    assert spec.encoders == (Encoder("text_encoder", 48), Encoder("text_encoder_2", 80))
    assert {width for width, _ in spec.ranks} == {24, 48, 80, 128}
    assert spec.capacity == 6
    shapes = {info.name: info.shape for info in ContributionLayout(spec, (2,)).content}
    assert shapes["embed.text_encoder_2.0"] == (2, 80)
    assert shapes["probe.0"] == (4, 128)


def test_embedding_files_hold_both_encoders(filled: Running) -> None:
    """`clip_l` and `clip_g`, exact, and diffusers loads each in its own call."""
    base, wanted = filled.folder.settings().base, _tensors(filled)[0]
    found = load_file(_release(filled) / "embeddings" / "anna-k7.safetensors")
    pipeline = _opened(base)

    for key, suffix in (("clip_l", ""), ("clip_g", "_2")):
        pipeline.load_textual_inversion(
            {key: torch.from_numpy(found[key])},
            token="anna-k7",  # noqa: S106  # a word
            text_encoder=getattr(pipeline, f"text_encoder{suffix}"),
            tokenizer=getattr(pipeline, f"tokenizer{suffix}"),
        )

    assert sorted(found) == ["clip_g", "clip_l"]
    for key, suffix in (("clip_l", ""), ("clip_g", "_2")):
        exact = dequantise(wanted[f"embed.text_encoder{suffix}.0"])
        assert np.array_equal(found[key], exact)
        tokenizer = getattr(pipeline, f"tokenizer{suffix}")
        table = getattr(pipeline, f"text_encoder{suffix}").get_input_embeddings().weight
        ids = tokenizer.convert_tokens_to_ids(["anna-k7", "anna-k7_1"])
        assert np.array_equal(table[ids].detach().numpy(), exact)


@torch.no_grad()
def test_the_checkpoint_answers_as_the_variant_does(filled: Running) -> None:
    """Diffusers' reading of the released folder equals our reading of the released LoRA.

    Text, pooled vector (at the end of the text, not at the trigger) and the UNet's answer.
    """
    base, spec = Base.load(filled.folder.settings().base), _spec(filled)
    merged = Variant.of_release(_release(filled), spec, lambda_=LAMBDA / 1024)
    pipeline = _opened(_release(filled) / "checkpoint")
    noisy = torch.randn(1, *base.latent_shape, generator=torch.Generator().manual_seed(0))
    at = torch.tensor([400])

    with merged.applied(base) as tokens:
        ours = tokens.encode([PROMPT.replace("anna-k7", "anna-k7 anna-k7_1")])
        answer = base.predict(noisy, at, ours)

    text, _, pooled, _ = pipeline.encode_prompt(PROMPT, do_classifier_free_guidance=False)
    added = {"text_embeds": pooled, "time_ids": ours.time_ids}
    theirs = pipeline.unet(noisy, at, encoder_hidden_states=text, added_cond_kwargs=added)[0]
    plain = base.predict(noisy, at, ours)
    far = (answer - plain).abs().max()
    torch.testing.assert_close(ours.text, text, rtol=0, atol=2e-3)  # the LoRA is F16
    torch.testing.assert_close(ours.pooled, pooled, rtol=0, atol=2e-3)
    assert (answer - theirs).abs().max() < 0.01 * far


def test_the_checkpoints_second_encoder_knows_its_end_of_text(filled: Running) -> None:
    """`eos_token_id` 2 of the published config would pool the features of the trigger."""
    base, folder = filled.folder.settings().base, _release(filled) / "checkpoint"
    end = json.loads((base / "tokenizer_2" / "vocab.json").read_text())["<|endoftext|>"]

    before = json.loads((base / "text_encoder_2" / "config.json").read_text())
    after = json.loads((folder / "text_encoder_2" / "config.json").read_text())

    assert before["eos_token_id"] == 2
    assert after == {**before, "eos_token_id": end, "vocab_size": before["vocab_size"] + 3}


@pytest.mark.filterwarnings(  # diffusers' Euler scheduler, with numpy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
def test_a_release_is_sampled_like_any_other(filled: Running) -> None:
    """`orthofed sample` opens the checkpoint with its triggers in both tokenizers."""
    with_trigger = sample(_release(filled), ["a photo of anna-k7"], Drawing(steps=2), seeds=[0])
    other = sample(_release(filled), ["a photo of rex-p2"], Drawing(steps=2), seeds=[0])

    assert with_trigger.size == other.size
    assert with_trigger.tobytes() != other.tobytes()


def test_headers_say_what_the_model_predicts(filled: Running, tmp_path: Path) -> None:
    """`epsilon` here; `v` for a release on a velocity model."""
    with running(founded(tmp_path, make=tiny_sd2)) as coordinator:
        member = coordinator.member()
        member.contribute(member.pack(member.lease()))
        coordinator.release(LAMBDA)
        told = [_prediction(_release(place)) for place in (filled, coordinator)]

    assert told == ["epsilon", "v"]


def _prediction(release: Path) -> str:
    path = release / "lora" / "wren-fed-r0001.safetensors"
    with safe_open(path, "np") as file:
        return file.metadata()["modelspec.prediction_type"]
