# pyright: basic, reportPrivateImportUsage=false
# diffusers and peft publish partial types.
"""Every LoRA of a release is the same merge, in the library that its kind is for."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from peft import PeftModel
from safetensors import safe_open
from safetensors.numpy import load_file

from orthofed.client.base_folder import BaseFolder
from orthofed.client.write_file import write_file
from orthofed.coordinator.merging import open_merge
from orthofed.coordinator.publications import newest
from orthofed.core.base_files import BaseFiles
from orthofed.core.basis_fingerprint import basis_fingerprint
from orthofed.core.diffusers_lora import diffusers_files
from orthofed.core.kinds import PUBLISHED, release_files
from orthofed.core.lorafile import FileOrigin
from orthofed.core.merge import residual
from orthofed.core.merging import Merge
from orthofed.core.peft_settings import peft_settings
from orthofed.core.published import PublishedModel, published_layers

from .serving import Running, founded, running
from .test_lorafile import digest, sd1, sdxl
from .tiny_base import tiny_base
from .tiny_families import tiny_sd2, tiny_sd2_epsilon, tiny_sdxl

pytestmark = [
    # peft asks for it while it wraps a text encoder
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    # diffusers' Euler scheduler, with numpy 2
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]
BOUND = 1e-5
LORAS = ("lora", "a1111", "concept", "embedding", "diffusers", "peft")


BASES = {"one": tiny_base, "two": tiny_sdxl, "sd2-v": tiny_sd2, "sd2-noise": tiny_sd2_epsilon}


@pytest.fixture(scope="module", params=BASES.values(), ids=list(BASES))
def filled(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Running]:
    """Two concepts on a base of each family, released at 0.6."""
    with running(founded(tmp_path_factory.mktemp("kinds"), make=request.param)) as coordinator:
        for seed, (name, vectors) in enumerate([("anna", 2), ("rex", 1)]):
            member = coordinator.member()
            lease = member.lease(name, (f"{name}-k7",), vectors=(vectors,))
            member.contribute(member.pack(lease, seed=seed, size=0.05))
        coordinator.release(614)
        yield coordinator


@contextmanager
def _merge(coordinator: Running) -> Iterator[Merge]:
    found = coordinator.house.store.run(newest)
    assert found is not None
    with open_merge(coordinator.house.facts.spec, found.plan.included, coordinator.folder) as merge:
        yield merge


def _base(coordinator: Running) -> BaseFiles:
    return BaseFolder(coordinator.folder.settings().base)


@pytest.fixture(scope="module")
def full(filled: Running, tmp_path_factory: Any) -> Path:
    """Return the LoRA kinds of the same release, written in F32."""
    out, spec = tmp_path_factory.mktemp("f32"), filled.house.facts.spec
    origin = FileOrigin(spec, basis_fingerprint(spec, 0), "epsilon", "F32")
    with _merge(filled) as merge:
        for file in release_files(merge, origin, _base(filled), n=1, kinds=LORAS):
            write_file(out, file)
    return out


def _worst(coordinator: Running, networks: dict[str, Any]) -> float:
    """Return max |W - target| / max |dW| over the adapted layers of ``networks``."""
    base, worst = _base(coordinator), 0.0
    with _merge(coordinator) as merge:
        for layer in merge.spec.layers:
            component, _, inside = layer.path.partition(".")
            if component not in networks:
                continue
            place = base.place(layer)
            terms = merge.terms(layer)
            dw = residual(terms, family=merge.spec.basis, width=layer.width, out=layer.out)
            root = networks[component]
            names = (inside, inside.removeprefix("text_model."))
            modules = dict(root.named_modules())
            weight = next(modules[name] for name in names if name in modules).weight
            far = weight.detach().double().numpy() - (place.values().astype(np.float64) + dw)
            worst = max(worst, np.abs(far).max() / np.abs(dw).max())
    return worst


def _opened(coordinator: Running) -> Any:
    return DiffusionPipeline.from_pretrained(
        coordinator.folder.settings().base, local_files_only=True
    )


def _networks(pipeline: Any) -> dict[str, Any]:
    names = ("unet", "text_encoder", "text_encoder_2")
    return {name: part for name in names if (part := getattr(pipeline, name, None)) is not None}


@pytest.mark.parametrize("kind", ["lora", "diffusers"])
def test_diffusers_fuses_the_exact_merge(kind: str, filled: Running, full: Path) -> None:
    """Both files that `load_lora_weights` takes, in F32: 1e-5 of the largest entry of dW."""
    pipeline = _opened(filled)
    before = _worst(filled, _networks(pipeline))
    name = {"lora": "wren-fed-r0001", "diffusers": "pytorch_lora_weights"}[kind]

    pipeline.load_lora_weights(full / kind, weight_name=f"{name}.safetensors")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()

    assert before > 0.9, "the comparison sees a LoRA that was not applied"
    assert _worst(filled, _networks(pipeline)) <= BOUND


def test_peft_merges_the_exact_merge(filled: Running, full: Path) -> None:
    """Each component's folder: `PeftModel.from_pretrained`, merge and unload."""
    merged = {
        name: PeftModel.from_pretrained(network, full / "peft" / name).merge_and_unload()
        for name, network in _networks(_opened(filled)).items()
    }

    assert len(merged) == len(list((full / "peft").iterdir()))
    assert _worst(filled, merged) <= BOUND


def test_peft_takes_no_notice_of_the_other_spelling(
    filled: Running, full: Path, tmp_path: Path
) -> None:
    """Why a text encoder's tensors stand twice: what these libraries do not call so is no-op."""
    network = _networks(_opened(filled))["text_encoder"]
    flat = not hasattr(network, "text_model")
    source = full / "peft" / "text_encoder"
    tensors = load_file(source / "adapter_model.safetensors")
    kept = {name: t for name, t in tensors.items() if ("text_model." in name) == flat}
    from safetensors.numpy import save_file  # noqa: PLC0415  # used here alone

    save_file(kept, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    (tmp_path / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())

    with pytest.warns(UserWarning, match="missing adapter keys"):
        merged = PeftModel.from_pretrained(network, tmp_path).merge_and_unload()

    assert len(kept) * 2 == len(tensors)
    assert _worst(filled, {"text_encoder": merged}) > 0.9


def test_a_bundle_is_refused_by_diffusers(filled: Running) -> None:
    """Negative control of formats.md 13.7: it raises, and so is no part of the stacked file."""
    folder = filled.folder.releases / "1" / "lora"

    with pytest.raises(ValueError, match="Invalid LoRA checkpoint"):
        _opened(filled).load_lora_weights(folder, weight_name="wren-fed-r0001-a1111.safetensors")


def test_a_bundle_is_the_stacked_file_and_every_triggers_vectors(filled: Running) -> None:
    """Names split at the first two dots; values are the embeddings', in the file's type."""
    folder = filled.folder.releases / "1"
    bundle = load_file(folder / "lora" / "wren-fed-r0001-a1111.safetensors")
    stacked = load_file(folder / "lora" / "wren-fed-r0001.safetensors")
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in [name for name in bundle if name.startswith("bundle_emb.")]:
        _, trigger, rest = name.split(".", 2)
        found.setdefault(trigger, {})[rest] = bundle.pop(name)

    assert set(bundle) == set(stacked)
    assert all(np.array_equal(bundle[name], stacked[name]) for name in stacked)
    assert set(found) == {"anna-k7", "rex-k7"}
    for trigger, rows in found.items():
        exact = load_file(folder / "embeddings" / f"{trigger}.safetensors")
        wanted = {"string_to_param.*": exact[trigger]} if trigger in exact else exact
        assert rows.keys() == wanted.keys()
        for key, values in wanted.items():
            assert np.array_equal(rows[key], values.astype(np.float16))


def test_diffusers_and_peft_hold_the_stacked_tensors(filled: Running) -> None:
    """F16, bit for bit: `lora_A` is down, `lora_B` is up; each layer once, or twice in PEFT's."""
    folder = filled.folder.releases / "1"
    named = load_file(folder / "diffusers" / "pytorch_lora_weights.safetensors")
    total = 0
    for path in (folder / "peft").glob("*/adapter_model.safetensors"):
        for name, tensor in load_file(path).items():
            module = name.removeprefix("base_model.model.")
            text = path.parent.name.startswith("text_encoder")
            prefix = "text_model." if text and not module.startswith("text_model.") else ""
            assert np.array_equal(tensor, named[f"{path.parent.name}.{prefix}{module}"])
            total += path.parent.name != "text_encoder" or not prefix
    stacked = load_file(folder / "lora" / "wren-fed-r0001.safetensors")
    by_bytes = sorted(t.tobytes() for name, t in stacked.items() if not name.endswith("alpha"))

    assert total == len(named)
    assert sorted(t.tobytes() for t in named.values()) == by_bytes


def test_the_checkpoint_draws_with_what_its_scheduler_says(filled: Running) -> None:
    """Opened by diffusers; a base that answers with a velocity stays one."""
    folder = filled.folder.releases / "1" / "checkpoint"
    pipeline: Any = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    said = {"v": "v_prediction"}.get(_base(filled).prediction, "epsilon")

    drawn = pipeline("a photo of anna-k7", num_inference_steps=1, output_type="np").images

    assert pipeline.scheduler.config.prediction_type == said
    assert np.isfinite(drawn).all()


def test_headers_of_the_new_kinds_are_their_allow_lists(filled: Running) -> None:
    """formats.md 6, columns D and P; the settings name alpha = R once a component."""
    folder, ours = filled.folder.releases / "1", ["basis", "content", "format", "spec"]
    whose = [f"orthofed.{name}" for name in ours]
    with safe_open(folder / "diffusers" / "pytorch_lora_weights.safetensors", "np") as file:
        said = file.metadata()
    with safe_open(folder / "peft" / "unet" / "adapter_model.safetensors", "np") as file:
        assert sorted(file.metadata()) == ["format", *whose]
    settings = json.loads(said["lora_adapter_metadata"])

    assert sorted(said) == ["format", "lora_adapter_metadata", *whose]
    assert settings["unet.r"] == settings["unet.lora_alpha"] == 8
    assert settings["unet.target_modules"] == ["to_k", "to_out.0", "to_q", "to_v"]


def test_info_and_card_name_every_tensor_file(filled: Running) -> None:
    """Kind and loaders of each, and no file of tensors that they leave out."""
    folder = filled.folder.releases / "1"
    info = json.loads((folder / "info.json").read_text())
    card = (folder / "card.md").read_text()
    written = {p.relative_to(folder).as_posix() for p in folder.rglob("*.safetensors")}
    told = {file["name"]: file for file in info["files"]}
    copied = {name for name in written - set(told) if name.startswith("checkpoint/")}

    assert set(told) == written - copied
    assert {file["kind"] for file in told.values()} == set(PUBLISHED)
    assert told["lora/wren-fed-r0001-a1111.safetensors"]["loads"] == ["a1111"]
    assert told["diffusers/pytorch_lora_weights.safetensors"]["loads"] == ["diffusers"]
    assert told["peft/unet/adapter_model.safetensors"]["loads"] == ["peft"]
    assert all(f"| `{name}` |" in card for name in told)


KEYS: dict[PublishedModel, tuple[int, str]] = {
    "sd15": (352, "bc3f1025bd65f483365dee48ab12dc2aac7435b1d7a25f62510da5ce9350f8c8"),
    "sdxl": (1472, "24a5a1390c3051666dea91ed9da6754d8fc3405f6f1f3a2f671b66fd4d77cddd"),
}


@pytest.mark.parametrize("model", KEYS)
def test_diffusers_keys_have_the_reference_check_sums(model: PublishedModel) -> None:
    """formats.md 3.2; the file's names come before any number is read."""
    spec = sd1() if model == "sd15" else sdxl()
    (file,) = diffusers_files(Merge(spec, ()), FileOrigin(spec, "ab" * 32))

    keys = [name for name, *_ in file.entries]

    assert (len(keys), digest(keys)) == KEYS[model]


@pytest.mark.parametrize("model", ["sd15", "sd21", "sdxl"])
def test_every_preset_has_suffixes_that_name_its_layers_alone(model: PublishedModel) -> None:
    """PEFT's rule, `name == s or name.endswith("." + s)`, over all layers that could be adapted."""
    everything = [layer.path for layer in published_layers(model, "all")]
    for targets in ("unet", "attention", "linear", "all"):
        layers = [x for x in published_layers(model, targets) if x.path.startswith("unet.")]
        suffixes: Any = peft_settings(layers, 4)["target_modules"]
        named = {
            path
            for path in everything
            if path.startswith("unet.") and any(path.endswith(f".{s}") for s in suffixes)
        }
        assert named == {layer.path for layer in layers}
