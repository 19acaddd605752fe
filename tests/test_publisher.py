"""A release's files: exact numbers, the same bytes each time, whole or absent, loadable."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from orthofed.coordinator import publisher
from orthofed.coordinator.base import BaseFolder
from orthofed.coordinator.carried import Carried
from orthofed.coordinator.keyfile import load_key
from orthofed.coordinator.publications import Plan
from orthofed.core.basis import block
from orthofed.core.contribution import block_fingerprint
from orthofed.core.document import parse
from orthofed.core.errors import InputError, OrthoFedError, VerificationFailed
from orthofed.core.layout import ContributionLayout, unpack
from orthofed.core.lorafile import kohya_key
from orthofed.core.quantise import dequantise
from orthofed.core.release import ReleaseManifest
from orthofed.core.targets import tensor_names
from orthofed.core.tensorfile import parse_header

from .serving import FastFs, Running, founded, running

LAMBDA = 614


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Three concepts, one of them with two triggers and several vectors, released at 0.6."""
    with running(founded(tmp_path_factory.mktemp("publisher"))) as coordinator:
        told = [("anna", ("anna-k7",), (2,)), ("rex", ("rex-p2", "rex-q3"), (1, 3))]
        told.append(("wren", ("wren-cat",), (1,)))
        for seed, (concept, triggers, vectors) in enumerate(told):
            member = coordinator.member()
            packed = member.pack(member.lease(concept, triggers, vectors=vectors), seed=seed)
            member.contribute(packed)
            coordinator.packs.append(packed)
        coordinator.release(LAMBDA)
        yield coordinator


def release(coordinator: Running):
    return coordinator.folder.releases / "1"


def blobs(coordinator: Running) -> list[dict[str, np.ndarray]]:
    """Return the float64 tensors of each contribution, slots ascending."""
    spec = coordinator.house.facts.spec
    return [
        {
            name: dequantise(tensor).astype(np.float64)
            for name, tensor in unpack(
                ContributionLayout(spec, packed.lease.vectors), packed.blob
            ).items()
        }
        for packed in coordinator.packs
    ]


def test_the_checkpoint_is_the_base_plus_the_residuals(filled):
    """Every adapted weight is W + 0.6 sum A B^T, every other tensor is the base's."""
    spec, parts = filled.house.facts.spec, blobs(filled)
    layers = {}
    for layer in spec.layers:
        for name in tensor_names(layer.path):
            layers[layer.path.partition(".")[0], name] = layer
    files = {"unet": "diffusion_pytorch_model", "text_encoder": "model"}

    for component, stem in files.items():
        path = f"{component}/{stem}.safetensors"
        base = load_file(filled.folder.settings().base / path)
        merged = load_file(release(filled) / "checkpoint" / path)
        assert set(merged) == set(base)
        for name, weight in base.items():
            layer = layers.get((component, name))
            if layer is None:
                assert np.array_equal(merged[name][: len(weight)], weight)
                continue
            dw = np.zeros((layer.out, layer.width))
            for slot, part in enumerate(parts):
                b = block(
                    spec.basis,
                    seed=spec.seed,
                    layer=layer.path,
                    width=layer.width,
                    rank=4,
                    slot=slot,
                ).astype(np.float64)
                dw += LAMBDA / 1024 * part[f"a.{layer.path}"] @ b.T
            assert np.abs(dw).max() > 0.01
            assert np.allclose(merged[name] - weight, dw, atol=1e-6)


def test_the_stacked_lora_holds_the_same_residual(filled):
    """Up x down of the canonical file is dW; each concept's file is its own columns, exactly."""
    spec, parts = filled.house.facts.spec, blobs(filled)
    stacked = load_file(release(filled) / "lora" / "wren-fed-r0001.safetensors")
    concepts = [
        load_file(release(filled) / "concepts" / f"wren-fed-{p.lease.concept}.safetensors")
        for p in filled.packs
    ]

    for layer in spec.layers:
        key = kohya_key(layer.path)
        up, down = stacked[f"{key}.lora_up.weight"], stacked[f"{key}.lora_down.weight"]
        assert up.shape == (layer.out, 12)
        assert float(stacked[f"{key}.alpha"]) == 12
        expected = LAMBDA / 1024 * parts[1][f"a.{layer.path}"]
        got = up.astype(np.float64)[:, 4:8] @ down.astype(np.float64)[4:8]
        b = block(
            spec.basis, seed=spec.seed, layer=layer.path, width=layer.width, rank=4, slot=1
        ).astype(np.float64)
        assert np.allclose(got @ b, expected, atol=2e-4)
        for i, concept in enumerate(concepts):
            columns = slice(4 * i, 4 * i + 4)
            assert np.array_equal(concept[f"{key}.lora_up.weight"], up[:, columns])
            assert np.array_equal(concept[f"{key}.lora_down.weight"], down[columns])


def test_the_signs_of_down_are_the_contributions_fingerprint(filled):
    """formats.md 4.2: whoever has the LoRA can check which block each concept was trained on."""
    spec = filled.house.facts.spec
    stacked = load_file(release(filled) / "lora" / "wren-fed-r0001.safetensors")

    for slot, packed in enumerate(filled.packs):
        rows = slice(4 * slot, 4 * slot + 4)
        found = block_fingerprint(
            np.sign(stacked[f"{kohya_key(layer.path)}.lora_down.weight"][rows]).astype(np.int8).T
            for layer in spec.layers
        )
        assert json.loads(packed.document)["body"]["basis"] == found


def test_embeddings_are_exact_and_named_by_trigger(filled):
    """One tensor a file, its key the trigger, its values the contribution's to the bit."""
    parts = blobs(filled)

    for part, packed in zip(parts, filled.packs, strict=True):
        for k, trigger in enumerate(packed.lease.triggers):
            found = load_file(release(filled) / "embeddings" / f"{trigger}.safetensors")
            assert list(found) == [trigger]
            assert np.array_equal(found[trigger], part[f"embed.text_encoder.{k}"])


def test_tokens_are_appended_in_slot_order(filled):
    """Rows after the base's, vocab_size raised, and the tokenizer's files say the same ids."""
    folder = release(filled) / "checkpoint"
    names = ["anna-k7", "anna-k7_1", "rex-p2", "rex-q3", "rex-q3_1", "rex-q3_2", "wren-cat"]
    rows = load_file(folder / "text_encoder" / "model.safetensors")
    table = rows["text_model.embeddings.token_embedding.weight"]
    first = len(table) - len(names)

    added = json.loads((folder / "tokenizer" / "added_tokens.json").read_text())
    config = json.loads((folder / "text_encoder" / "config.json").read_text())

    assert added == {name: first + i for i, name in enumerate(names)}
    assert config["vocab_size"] == len(table)
    learned = [
        row
        for part, p in zip(blobs(filled), filled.packs, strict=True)
        for k in range(len(p.lease.triggers))
        for row in part[f"embed.text_encoder.{k}"]
    ]
    assert np.array_equal(table[first:], np.array(learned, dtype=np.float32))


LOADS = """
import json, sys
from diffusers import DiffusionPipeline
for folder in sys.argv[1:]:
    pipeline = DiffusionPipeline.from_pretrained(folder)
    ids = pipeline.tokenizer("a photo of Anna-K7 and wren-cat").input_ids
    prompt = pipeline.maybe_convert_prompt("rex-q3 here", pipeline.tokenizer)
    image = pipeline("a photo of anna-k7", num_inference_steps=1, height=16, width=16).images[0]
    rows = pipeline.text_encoder.get_input_embeddings().weight.shape[0]
    print(json.dumps([ids, prompt, image.size, rows, len(pipeline.tokenizer)]))
"""
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_the_checkpoint_loads_with_its_tokens(filled, tmp_path):
    """Diffusers opens the folder; triggers are single tokens and expand to all their vectors.

    Once as published, once from a base that also ships tokenizer.json and a decoder table.
    """
    folders = [release(filled) / "checkpoint", rebuilt_with_fast_tokenizer(filled, tmp_path)]
    command = [sys.executable, "-P", "-c", LOADS, *map(str, folders)]

    done = subprocess.run(command, check=True, capture_output=True, text=True, env=ONE_THREAD)

    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[[")]
    assert len(told) == 2
    for ids, prompt, size, rows, known in told:
        first = rows - 7
        assert known == rows
        assert first in ids
        assert first + 6 in ids
        assert prompt == "rex-q3 rex-q3_1 rex-q3_2 here"
        assert size == [16, 16]


def rebuilt_with_fast_tokenizer(filled, tmp_path):
    """Build the checkpoint on the same base with the library's own tokenizer files added."""
    base = tmp_path / "base"
    shutil.copytree(filled.folder.settings().base, base)
    code = (
        "import sys; from transformers import CLIPTokenizer;"
        "CLIPTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])"
    )
    saved = tmp_path / "saved"
    words = [sys.executable, "-P", "-c", code, str(base / "tokenizer"), str(saved)]
    subprocess.run(words, check=True, capture_output=True, env=ONE_THREAD)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(saved / name, base / "tokenizer" / name)
    spec = filled.house.facts.spec
    out = tmp_path / "out"
    out.mkdir()
    nothing = Carried(out, {})
    with publisher.open_merge(spec, plan_of(filled).included, filled.folder) as merge:
        list(publisher.write_checkpoint(out, BaseFolder(base), merge, carried=nothing, fs=FastFs()))
    return out / "checkpoint"


def test_every_tensor_file_passes_the_strict_reader_and_names_its_own_hash(filled):
    """Header by our writer, metadata by the allow-list, tensor hash inside equals the bytes."""
    for path in sorted(release(filled).rglob("*.safetensors")):
        data = path.read_bytes()
        ours = "vae" not in path.parts
        header = parse_header(data, file_size=len(data), ours=ours)
        digest = hashlib.sha256(data[header.data_start :]).hexdigest()
        if path.parent.name in ("lora", "concepts", "embeddings"):
            assert header.metadata["modelspec.hash_sha256"] == f"0x{digest}"
            assert header.metadata["orthofed.spec"] == filled.house.facts.spec.id
        with safe_open(path, "np") as file:
            assert set(file.keys()) == {info.name for info in header.tensors}


def test_info_and_card_say_what_is_true(filled):
    """info.json agrees with the files; the card names triggers and the permitted privacy words."""
    info = json.loads((release(filled) / "info.json").read_text())
    card = (release(filled) / "card.md").read_text()

    assert [c["concept"] for c in info["concepts"]] == ["anna", "rex", "wren"]
    assert info["concepts"][1]["triggers"][1] == {"trigger": "rex-q3", "vectors": 3}
    assert info["rank"] == 12
    for file in info["files"]:
        data = (release(filled) / file["name"]).read_bytes()
        assert file["autov2"] == hashlib.sha256(data).hexdigest()[:10]
    assert "`rex-q3`" in card
    assert "A published concept can be prompted by anyone" in card
    assert str(filled.folder.root) not in card


def plan_of(coordinator: Running) -> Plan:
    return Plan.from_bytes(coordinator.desk.ask("plan", {"lambda_1024": LAMBDA})["plan"].encode())


def build(coordinator: Running, plan: Plan, *, base=None):
    folder = coordinator.folder
    return publisher.build(
        folder,
        coordinator.house.facts.spec,
        plan,
        load_key(folder.keys, "release"),
        base=BaseFolder(base or folder.settings().base),
        fs=FastFs(),
        say=lambda _: None,
    )


def contents(path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


def test_a_second_build_gives_the_same_bytes(filled):
    """The plan holds everything that varies: build, throw away, build: every byte the same."""
    plan, before = plan_of(filled), contents(release(filled))
    kept = release(filled).rename(filled.folder.releases / "kept")

    try:
        build(filled, plan)
        assert contents(release(filled)) == before
    finally:
        shutil.rmtree(release(filled))
        kept.rename(release(filled))


@pytest.mark.parametrize("harm", ["flip", "extra", "missing", "nothing"])
def test_a_folder_that_is_not_what_was_signed_is_built_again(filled, harm):
    """Found after a kill between rename and leaf: kept when right, else replaced."""
    plan, before = plan_of(filled), contents(release(filled))
    card = release(filled) / "card.md"
    if harm == "flip":
        card.write_bytes(b"x" + card.read_bytes()[1:])
    elif harm == "extra":
        (release(filled) / "more.txt").write_text("x")
    elif harm == "missing":
        card.unlink()
    made = (release(filled) / "manifest.json").stat().st_mtime_ns

    build(filled, plan)

    assert contents(release(filled)) == before
    again = (release(filled) / "manifest.json").stat().st_mtime_ns
    assert (again == made) == (harm == "nothing")


def test_a_damaged_blob_or_another_base_stops_the_build(filled, tmp_path):
    """Nothing half-built is left, and the error names what to restore."""
    plan = plan_of(filled)
    later = Plan.from_bytes(plan.to_bytes().replace(b'"n": 1', b'"n": 9'))
    body = json.loads(filled.packs[0].document)["body"]
    blob = filled.folder.blob(body["blob"])
    good = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    base = tmp_path / "base"
    shutil.copytree(filled.folder.settings().base, base)
    (base / "unet" / "config.json").write_text("{}")

    try:
        with pytest.raises(VerificationFailed) as damaged:
            build(filled, later)
    finally:
        blob.write_bytes(good)
    with pytest.raises(InputError) as other:
        build(filled, later, base=base)

    assert damaged.value.code == "blob-damaged"
    assert "anna" in damaged.value.what
    assert other.value.code == "not-the-base"
    assert not (filled.folder.releases / "9").exists()
    assert not (filled.folder.releases / ".9.tmp").exists()


def test_the_manifest_lists_every_contribution_and_file(filled):
    """Each file with its parts' hashes; each contribution leaf in one of the two lists."""
    signed = parse((release(filled) / "manifest.json").read_bytes(), kind="release")
    manifest = ReleaseManifest.from_document(signed)

    signed.verify(filled.house.facts.ring.release)
    assert {file.name for file in manifest.files} == set(contents(release(filled))) - {
        "manifest.json"
    }
    assert len(manifest.contributions) == 3
    assert manifest.left_out == ()


def test_the_desk_publishes_only_what_the_plan_says(filled):
    """A folder signed for another plan, or without an open plan, gets no leaf."""
    with pytest.raises(OrthoFedError) as refused:
        filled.desk.ask("publish", {"n": 1})

    assert refused.value.code == "not-planned"
