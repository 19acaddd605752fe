"""Each family against diffusers' own pipeline on the same tiny random model.

The oracle never shares code with ours: the pipeline is opened from the same folder, encodes the
same prompts and calls its own UNet.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from orthofed.client.base import Base
from orthofed.client.families.conditioning import Conditioning
from orthofed.client.families.framing import Framing
from orthofed.client.packing import packed
from orthofed.client.score import Scorer, phrase_of
from orthofed.client.tokens import LearnedTokens
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.core.errors import SpecError

from .tiny_base import tiny_base
from .tiny_concept import NOUN, bench
from .tiny_families import tiny_sd2, tiny_sdxl

PROMPTS = ["a photo of a red fox", "blue tree", ""]
MAKERS = {"sd1": tiny_base, "sd2": tiny_sd2, "sdxl": tiny_sdxl}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("families")
    return {name: make(place / name) for name, make in MAKERS.items()}


@pytest.fixture(scope="module", params=sorted(MAKERS))
def both(request: pytest.FixtureRequest, folders: dict[str, Path]) -> tuple[Base, Any]:
    """One base, and diffusers' pipeline of the same folder."""
    folder = folders[request.param]
    return Base.load(folder), DiffusionPipeline.from_pretrained(folder, local_files_only=True)


def _oracle(pipeline: Any, prompts: list[str]) -> Conditioning:
    """Return what the pipeline's own functions make of ``prompts``."""
    options = {"device": torch.device("cpu"), "num_images_per_prompt": 1}
    encoded = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False, **options)
    if "text_encoder_2" not in pipeline.components:
        return Conditioning(encoded[0])
    side = pipeline.default_sample_size * pipeline.vae_scale_factor
    ids = pipeline._get_add_time_ids(
        (side, side),
        (0, 0),
        (side, side),
        dtype=torch.float32,
        text_encoder_projection_dim=pipeline.text_encoder_2.config.projection_dim,
    )
    return Conditioning(encoded[0], encoded[2], ids.repeat(len(prompts), 1))


def _unet(pipeline: Any, noisy: torch.Tensor, times: torch.Tensor, c: Conditioning) -> torch.Tensor:
    added = {"text_embeds": c.pooled, "time_ids": c.time_ids} if c.pooled is not None else None
    return pipeline.unet(noisy, times, encoder_hidden_states=c.text, added_cond_kwargs=added)[0]


@torch.no_grad()
def test_the_conditions_are_the_pipelines(both: tuple[Base, Any]) -> None:
    """Text, pooled vector and time ids, for a long, a short and the empty prompt."""
    base, pipeline = both

    ours = LearnedTokens.of(base, {}).encode(PROMPTS)

    wanted = _oracle(pipeline, PROMPTS)
    torch.testing.assert_close(ours.text, wanted.text, rtol=0, atol=1e-6)
    for mine, its in ((ours.pooled, wanted.pooled), (ours.time_ids, wanted.time_ids)):
        assert (mine is None) == (its is None)
        if mine is not None and its is not None:
            torch.testing.assert_close(mine, its, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_answer_is_the_pipelines_unets(both: tuple[Base, Any]) -> None:
    """The same noisy latents at three timesteps: our answer equals a call of its UNet."""
    base, pipeline = both
    noisy = torch.randn(3, *base.latent_shape, generator=torch.Generator().manual_seed(1))
    times = torch.tensor([3, 500, 981])

    ours = base.predict(noisy, times, LearnedTokens.of(base, {}).encode(PROMPTS))

    wanted = _unet(pipeline, noisy, times, _oracle(pipeline, PROMPTS))
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-6)


@torch.no_grad()
def test_learned_words_are_what_textual_inversion_makes_of_them(both: tuple[Base, Any]) -> None:
    """The same vectors in the pipeline's own tokenizers and tables: the same text features."""
    base, pipeline = both
    random = np.random.default_rng(3)
    rows = {n: random.standard_normal((2, t.width)).astype("f4") for n, t in base.towers.items()}
    for name, values in rows.items():
        pipeline.load_textual_inversion(
            {"anna-k7": torch.from_numpy(values)},
            token="anna-k7",  # noqa: S106  # a word
            text_encoder=getattr(pipeline, name),
            tokenizer=getattr(pipeline, name.replace("text_encoder", "tokenizer")),
        )
    prompts = ["a photo of anna-k7 on a tree", "a red fox"]
    if "text_encoder_2" in rows:  # what a checkpoint's config says; 2 would pool the trigger
        second = pipeline.text_encoder_2.text_model
        second.eos_token_id = base.towers["text_encoder_2"].tokenizer.eos_token_id

    tokens = LearnedTokens.of(base, {"anna-k7": rows})
    with tokens.attached():
        ours = tokens.encode([p.replace("anna-k7", tokens.phrase) for p in prompts])

    wanted = _oracle(pipeline, prompts)
    torch.testing.assert_close(ours.text, wanted.text, rtol=0, atol=1e-6)
    if ours.pooled is not None:
        torch.testing.assert_close(ours.pooled, wanted.pooled, rtol=0, atol=1e-6)


def test_vectors_start_at_the_noun_in_every_encoder(folders: dict[str, Path]) -> None:
    """Each encoder has its own table, so its own start."""
    base = Base.load(folders["sdxl"])

    tokens = LearnedTokens.from_noun(base, [Trigger("anna-k7", 3)], "fox", seed=0)

    for name, tower in base.towers.items():
        fox = tower.table.weight[tower.tokenizer("fox", add_special_tokens=False).input_ids[0]]
        far = (tokens.vectors[name] - fox).norm(dim=1)
        assert tokens.vectors[name].shape == (3, tower.width)
        assert far.min() > 0
        assert far.max() < 0.05 * fox.norm()


@torch.no_grad()
def test_every_image_has_its_own_sizes(folders: dict[str, Path]) -> None:
    """A crop of a large photo is told apart from a whole small one, row by row."""
    base = Base.load(folders["sdxl"])
    tokens = LearnedTokens.of(base, {})
    cut = Framing(original=(40, 30), corner=(7, 2), target=(16, 16))

    told = tokens.encode(["a red fox"] * 2, [cut, Framing.whole(16)])

    assert told.time_ids is not None
    assert told.time_ids.tolist() == [[40, 30, 7, 2, 16, 16], [16, 16, 0, 0, 16, 16]]
    noisy = torch.zeros(2, *base.latent_shape)
    first, second = base.predict(noisy, torch.tensor([9, 9]), told)
    assert not torch.equal(first, second)


def test_conditions_are_picked_and_joined_row_by_row() -> None:
    """Text, pooled and sizes of a row stay together."""
    rows = torch.arange(3.0)
    all_three = Conditioning(rows.view(3, 1, 1), rows.view(3, 1), rows.view(3, 1))

    turned = Conditioning.cat([all_three[[2, 0]], all_three[1:2]])

    assert len(turned) == 3
    for part in (turned.text, turned.pooled, turned.time_ids):
        assert part is not None
        assert part.flatten().tolist() == [2, 0, 1]
    assert Conditioning.cat([Conditioning(rows)]).pooled is None


@torch.no_grad()
def test_velocity_and_noise_lead_to_the_same_place(folders: dict[str, Path]) -> None:
    """With the true answer, one step gives the clean latents, or their noising."""
    random = torch.Generator().manual_seed(0)
    clean, noise = (
        torch.randn(2, 4, 8, 8, generator=random),
        torch.randn(2, 4, 8, 8, generator=random),
    )
    for name in MAKERS:
        process = Base.load(folders[name]).family.noise
        at = torch.tensor([700, 700])

        noisy, answer = process.add(clean, noise, at), process.target(clean, noise, at)

        assert torch.equal(answer, noise) == (name != "sd2")
        back = process.step(noisy, answer, now=700, then=None)
        torch.testing.assert_close(back, clean, rtol=0, atol=1e-5)
        half = process.step(noisy, answer, now=700, then=300)
        wanted = process.add(clean, noise, torch.tensor([300, 300]))
        torch.testing.assert_close(half, wanted, rtol=0, atol=1e-5)


def test_a_velocity_model_is_taught_like_any_other(tmp_path: Path) -> None:
    """From train to quantised tensors: better than the base on unseen images, in velocity."""
    tiny, triggers = bench(tmp_path, tiny_sd2), [Trigger("anna-k7")]
    scorer = Scorer.on(tiny.base, tiny.images.held_out, num_draws=64)

    tensors = packed(tiny.train(steps=30), tiny.spec)

    single = Variant.of_contribution(tiny.spec, 0, triggers, tensors)
    assert scorer.loss(single, phrase_of(triggers)) < 0.995 * scorer.base_loss(NOUN)


def _edited(folder: Path, file: str, old: str, new: str, place: Path) -> Path:
    shutil.copytree(folder, place)
    text = (place / file).read_text()
    assert old in text
    (place / file).write_text(text.replace(old, new))
    return place


@pytest.mark.parametrize(
    ("family", "file", "old", "new", "code"),
    [
        ("sd1", "model_index.json", '"unet"', '"transformer"', "unknown-family"),
        ("sdxl", "model_index.json", '"text_encoder"', '"text_encoder_3"', "unknown-family"),
        ("sdxl", "model_index.json", '"CLIPTextModel"', '"ChatGLMModel"', "unknown-family"),
        ("sdxl", "unet/config.json", '"addition_embed_type": "text_time"',
         '"addition_embed_type": "text"', "unknown-family"),
        ("sd1", "model_index.json", '"DDIMScheduler"', '"MyScheduler"', "unknown-scheduler"),
        ("sd1", "scheduler/scheduler_config.json", '"epsilon"', '"sample"',
         "unknown-prediction-type"),
    ],
)  # fmt: skip
def test_a_model_of_no_known_family_is_refused(
    folders: dict[str, Path], tmp_path: Path, family: str, file: str, old: str, new: str, code: str
) -> None:
    """Before anything is trained; a class that the folder names is never imported."""
    folder = _edited(folders[family], file, old, new, tmp_path / "base")

    with pytest.raises(SpecError) as caught:
        Base.load(folder)

    assert caught.value.code == code
    assert caught.value.fix


def test_a_tokenizer_with_other_words_than_the_table_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """A learned word would read the row of another."""
    folder = shutil.copytree(folders["sdxl"], tmp_path / "base")
    (folder / "tokenizer_2" / "added_tokens.json").write_text('{"old-word": 600}')

    with pytest.raises(SpecError) as caught:
        Base.load(folder)

    assert caught.value.code == "tokenizer-does-not-fit"
