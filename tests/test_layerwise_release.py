"""A release of a federation with layer-wise tokens: what is in it, what is not, how it is drawn."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from orthofed.client.base import Base
from orthofed.client.drawing import Drawing
from orthofed.client.sample import sample
from orthofed.client.tokens import LearnedTokens
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.client.verify import check_header
from orthofed.core.errors import InputError
from orthofed.core.layout import ContributionLayout, unpack
from orthofed.core.lorafile import embedding_keys
from orthofed.core.quantise import dequantise
from orthofed.core.regions import Region
from orthofed.core.spec import FederationSpec

from .serving import Running, founded, running
from .tiny_base import tiny_base
from .tiny_families import tiny_sdxl

LAMBDA = 614
MAKERS = {"sd1": tiny_base, "sdxl": tiny_sdxl}
TOLD = (("anna", ("anna-k7",), (2,)), ("rex", ("rex-p2", "rex-q3"), (1, 3)))
EULER = pytest.mark.filterwarnings(  # diffusers' Euler scheduler, with numpy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture(scope="module", params=sorted(MAKERS))
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Two concepts, released at 0.6."""
    make: Callable[[Path], Path] = MAKERS[request.param]
    folder = founded(tmp_path_factory.mktemp("fed"), make=make, layerwise_tokens=True)
    with running(folder) as coordinator:
        for seed, (concept, triggers, vectors) in enumerate(TOLD):
            member = coordinator.member()
            lease = member.lease(concept, triggers, vectors=vectors)
            packed = member.pack(lease, seed=seed, size=0.05)
            member.contribute(packed)
            coordinator.packs.append(packed)
        coordinator.release(LAMBDA)
        yield coordinator


def _spec(coordinator: Running) -> FederationSpec:
    return coordinator.house.facts.spec


def _release(coordinator: Running) -> Path:
    return coordinator.folder.releases / "1"


def test_each_trigger_has_one_file_with_a_set_for_every_token_layer(filled: Running) -> None:
    """[layers, v, width] for each encoder, exact, in the spec's order, under a strict header."""
    spec = _spec(filled)

    for packed in filled.packs:
        sent = unpack(ContributionLayout(spec, packed.lease.vectors), packed.blob)
        for k, (trigger, vectors) in enumerate(
            zip(packed.lease.triggers, packed.lease.vectors, strict=True)
        ):
            path = _release(filled) / "layerwise" / f"{trigger}.safetensors"
            found, keys = load_file(path), embedding_keys(spec.encoders, trigger)
            assert set(found) == set(keys.values())
            for encoder in spec.encoders:
                rows = found[keys[encoder.name]]
                assert rows.shape == (len(spec.token_layers), vectors, encoder.width)
                wanted = dequantise(sent[f"embed.{encoder.name}.{k}"])
                assert np.array_equal(rows.reshape(wanted.shape), wanted)
            check_header(path, path.name)


def test_ordinary_loaders_find_nothing_that_they_would_misread(filled: Running) -> None:
    """No embeddings/; tokenizers and configs are the base's bytes, the tables have its rows."""
    base, out = filled.folder.settings().base, _release(filled)

    assert not (out / "embeddings").exists()
    for encoder in _spec(filled).encoders:
        tokenizer = encoder.name.replace("text_encoder", "tokenizer")
        for path in [*(base / tokenizer).iterdir(), base / encoder.name / "config.json"]:
            copied = out / "checkpoint" / path.relative_to(base)
            assert copied.read_bytes() == path.read_bytes()
        weights = f"{encoder.name}/model.safetensors"
        name = "text_model.embeddings.token_embedding.weight"
        rows = load_file(out / "checkpoint" / weights)[name]
        assert np.array_equal(rows, load_file(base / weights)[name])


def test_info_and_card_say_it_plainly(filled: Running) -> None:
    """Kind, loader and the places in order for programs; for people what no other program loads."""
    spec, out = _spec(filled), _release(filled)
    info = json.loads((out / "info.json").read_text())
    card = (out / "card.md").read_text()

    files = [file for file in info["files"] if file["kind"] == "layerwise"]
    assert [file["name"] for file in files] == [
        f"layerwise/{trigger}.safetensors" for trigger in ("anna-k7", "rex-p2", "rex-q3")
    ]
    for file in files:
        assert file["loads"] == ["orthofed"]
        data = (out / file["name"]).read_bytes()
        assert file["autov2"] == hashlib.sha256(data).hexdigest()[:10]
        assert b"textual-inversion" not in data
    assert info["token_layers"] == list(spec.token_layers)
    assert "cannot load such vectors" in card
    assert 'orthofed sample FOLDER --prompt "a photo of anna-k7"' in card
    assert "textual inversion" not in card
    assert "A published concept can be prompted by anyone" in card


@torch.no_grad()
def test_the_checkpoint_with_its_vectors_answers_as_the_merged_model(filled: Running) -> None:
    """What `orthofed sample` asks equals what scoring asks: base, stacked LoRA and vectors."""
    base, out = Base.load(filled.folder.settings().base), _release(filled)
    merged = Variant.of_release(out, _spec(filled), lambda_=LAMBDA / 1024)
    checkpoint = Base.load(out / "checkpoint")
    noisy = torch.randn(1, *base.latent_shape, generator=torch.Generator().manual_seed(0))
    answers, prompt = [], "a photo of anna-k7 anna-k7_1 beside rex-p2"

    for model, variant in (
        (base, merged),
        (checkpoint, Variant.of_layerwise(out, checkpoint)),
        (checkpoint, Variant()),
    ):
        with variant.applied(model) as tokens:
            answers.append(model.predict(noisy, torch.tensor([400]), tokens.encode([prompt])))

    far = (answers[0] - answers[2]).abs().max()
    assert (answers[0] - answers[1]).abs().max() < 0.01 * far  # the LoRA is F16


@EULER
def test_a_release_is_drawn_with_its_vectors_or_not_at_all(filled: Running, tmp_path: Path) -> None:
    """The first word calls all of a trigger's; without the vectors' files it is an error."""
    out = _release(filled)
    first = sample(out, ["a photo of anna-k7"], Drawing(steps=2), seeds=[0])
    again = sample(out, ["a photo of anna-k7"], Drawing(steps=2), seeds=[0])
    other = sample(out, ["a photo of rex-p2"], Drawing(steps=2), seeds=[0])
    bare = tmp_path / "bare"
    shutil.copytree(out, bare, ignore=shutil.ignore_patterns("layerwise"))

    with pytest.raises(InputError) as caught:
        sample(bare, ["a photo of anna-k7"], Drawing(steps=2), seeds=[0])

    assert first.tobytes() == again.tobytes() != other.tobytes()
    assert caught.value.code == "release-unusable"


@EULER
def test_a_trigger_drawn_by_its_first_word_is_the_whole_phrase(filled: Running) -> None:
    """`anna-k7` gives the very pixels of `anna-k7 anna-k7_1`, whatever the label below."""
    out = _release(filled)

    images = [
        np.asarray(sample(out, [prompt], Drawing(steps=1), seeds=[0]))[:150]
        for prompt in ("a photo of anna-k7", "a photo of anna-k7 anna-k7_1", "a photo of anna")
    ]

    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


@pytest.mark.parametrize("harm", ["sets", "shape", "info"])
def test_a_damaged_folder_is_not_used(filled: Running, tmp_path: Path, harm: str) -> None:
    """Another number of sets, ordinary vectors' place, an info.json that is none."""
    bare, spec = tmp_path / "bare", _spec(filled)
    shutil.copytree(_release(filled), bare, ignore=shutil.ignore_patterns("checkpoint"))
    if harm == "sets":
        spec = replace(spec, token_layers=spec.token_layers[:-1])
    elif harm == "shape":
        shutil.copytree(bare / "layerwise", bare / "embeddings")
        spec = replace(spec, token_layers=())
    else:
        (bare / "info.json").write_text("[]")

    with pytest.raises(InputError) as caught:
        Variant.of_release(bare, spec)

    assert caught.value.code == "release-unusable"


def test_words_are_spelt_out_once(tmp_path: Path) -> None:
    """In any case, inside a text, not inside longer words, not twice."""
    base = Base.load(tiny_base(tmp_path / "base"))
    vectors = {"text_encoder": torch.zeros(5, 48)}
    tokens = LearnedTokens(base, [Trigger("anna-k7", 3), Trigger("rex", 2)], vectors)
    whole = "anna-k7 anna-k7_1 anna-k7_2"

    assert tokens.spelt("Anna-K7 here, rex.") == f"{whole} here, rex rex_1."
    assert tokens.spelt(f"{whole} and anna-k70 rex-2 rex_1") == f"{whole} and anna-k70 rex-2 rex_1"


@EULER
def test_regions_and_what_not_to_draw_go_with_layerwise_tokens(filled: Running) -> None:
    """Two regions with a trigger each and a negative prompt, twice as wide; every time the same."""
    out, side = _release(filled), 8 * _own(filled)
    regions = [Region.parse("left: a photo of anna-k7"), Region.parse("right: a photo of rex-p2")]
    both = Drawing(regions, "a tree", (2 * side, side), steps=2)

    def drawn(drawing: Drawing) -> np.ndarray:
        return np.asarray(sample(out, ["a photo"], drawing, seeds=[0]))[:side]

    first = drawn(both)

    assert np.array_equal(first, drawn(both))
    assert not np.array_equal(first, drawn(replace(both, negative="")))
    assert not np.array_equal(first, drawn(replace(both, apart=0)))
    swapped = [
        Region(one.box, other.prompt) for one, other in zip(regions, regions[::-1], strict=True)
    ]
    assert not np.array_equal(first, drawn(replace(both, regions=swapped)))


def _own(coordinator: Running) -> int:
    """Return the side of the base's latents."""
    return Base.load(coordinator.folder.settings().base).latent_shape[-1]
