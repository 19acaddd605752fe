# pyright: basic, reportPrivateImportUsage=false
# diffusers publishes partial types.
"""The single file of a release: diffusers' own way back gives the weights of ``checkpoint/``."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from orthofed.client.base_folder import BaseFolder
from orthofed.client.fetch_base import fetch_base
from orthofed.client.write_file import write_file
from orthofed.coordinator.merging import open_merge
from orthofed.coordinator.publications import newest
from orthofed.core.basis_fingerprint import basis_fingerprint
from orthofed.core.full_file import full_files
from orthofed.core.kinds import release_files
from orthofed.core.lorafile import FileOrigin
from orthofed.core.merging import Merge
from orthofed.core.release_file import TensorFile
from orthofed.core.single_file import SingleFileNames

from .loader_rules import FULL_RULES
from .serving import Running, founded, running
from .single_file import _CLIP, _OPEN_CLIP, _opened, _unet, _vae
from .test_fetch_base import _configs
from .test_lorafile import sd1
from .test_published_shapes import CLIP_L, OPEN_CLIP_G, OPEN_CLIP_H, SD1, SD2, SDXL
from .test_single_file import VAE
from .tiny_base import tiny_base
from .tiny_families import tiny_sd2, tiny_sdxl

NAME = "full/wren-fed-r0001-full.safetensors"


def _of(make: Callable[[Path], Path], dtype: torch.dtype) -> Callable[[Path], Path]:
    """Return ``make`` with its weights in another type."""

    def made(folder: Path) -> Path:
        make(folder)
        for path in folder.rglob("*.safetensors"):
            tensors = load_torch(path)
            save_file(
                {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()},
                path,
                {"format": "pt"},
            )
        return folder

    return made


MADE = {
    "sd1": tiny_base,
    "sd2-half": _of(tiny_sd2, torch.float16),
    "sdxl-brain": _of(tiny_sdxl, torch.bfloat16),
}


@pytest.fixture(scope="module", params=MADE)
def filled(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Running]:
    """Two concepts on a base of each family."""
    make = MADE[request.param]
    with running(founded(tmp_path_factory.mktemp("full"), make=make)) as coordinator:
        for seed, (name, vectors) in enumerate([("anna", 2), ("rex", 1)]):
            member = coordinator.member()
            lease = member.lease(name, (f"{name}-k7",), vectors=(vectors,))
            member.contribute(member.pack(lease, seed=seed, size=0.05))
        coordinator.release(614)
        yield coordinator


def _base(coordinator: Running) -> BaseFolder:
    return BaseFolder(coordinator.folder.settings().base)


def _write(coordinator: Running, out: Path, **given: Any) -> Path:
    """Write the full file of the newest release below ``out``."""
    spec, found = coordinator.house.facts.spec, coordinator.house.store.run(newest)
    assert found is not None
    origin = FileOrigin(spec, basis_fingerprint(spec, 0))
    with open_merge(spec, found.plan.included, coordinator.folder) as merge:
        for file in release_files(merge, origin, _base(coordinator), n=1, kinds=("full",), **given):
            write_file(out, file)
    return out / NAME


def test_diffusers_reads_the_weights_of_the_checkpoint(filled: Running, tmp_path: Path) -> None:
    """`from_single_file`, then every tensor against ``checkpoint/``: equal to the bit.

    The token table is the base's: the checkpoint's without its last rows.
    """
    full = _write(filled, tmp_path)
    base, checkpoint = _base(filled).root, filled.folder.releases / "1" / "checkpoint"

    back = fetch_base(str(full), tmp_path / "back", config=_configs(base, tmp_path / "config"))

    changed = 0
    for path in sorted(back.rglob("*.safetensors")):
        name = path.relative_to(back)
        read, wanted, before = (load_torch(each / name) for each in (back, checkpoint, base))
        assert set(read) == {n for n, t in wanted.items() if t.is_floating_point()}
        for key, value in read.items():
            rows = wanted[key][: len(before[key])] if before[key].ndim else wanted[key]
            assert torch.equal(value, rows), key
            changed += not torch.equal(value, before[key])
    assert changed == len(filled.house.facts.spec.layers)


def test_threads_change_no_byte_and_the_hash_in_the_header_is_the_files(
    filled: Running, tmp_path: Path
) -> None:
    """Law 1; metadata is column F of the allow-list (formats.md 6), whole."""
    one = _write(filled, tmp_path / "one")
    other = _write(filled, tmp_path / "other", run=lambda work: iter([w() for w in list(work)]))
    with safe_open(one, "np") as file:
        said = file.metadata()

    assert one.read_bytes() == other.read_bytes()
    names = "architecture hash_sha256 implementation license prediction_type resolution"
    names += " sai_model_spec tags title trigger_phrase usage_hint"
    ours = [f"orthofed.{name}" for name in ("basis", "content", "format", "spec")]
    assert sorted(said) == sorted([*(f"modelspec.{name}" for name in names.split()), *ours])
    assert said["modelspec.title"] == "wren-fed: 2 concepts"
    assert "/" not in said["modelspec.architecture"]


def test_the_reference_writer_keeps_the_order(filled: Running, tmp_path: Path) -> None:
    """A re-save elsewhere leaves the bytes after the header, hence the tensor hash."""
    full = _write(filled, tmp_path)
    save_file(load_torch(full), tmp_path / "again.safetensors")

    assert _data(full) == _data(tmp_path / "again.safetensors")


def _data(path: Path) -> bytes:
    found = path.read_bytes()
    return found[8 + int.from_bytes(found[:8], "little") :]


def test_a_base_that_no_single_file_can_hold_has_none(tmp_path: Path) -> None:
    """A tensor without a place, and q, k, v of two types: no file rather than half a one."""
    strange, mixed = tiny_base(tmp_path / "strange"), tiny_sd2(tmp_path / "mixed")
    for folder, part, change in (
        (strange, "unet/diffusion_pytorch_model.safetensors", _add),
        (mixed, "text_encoder/model.safetensors", _halve_one),
    ):
        tensors = load_file(folder / part)
        change(tensors)
        save_file({n: torch.from_numpy(t) for n, t in tensors.items()}, folder / part)
    merge, origin = Merge(sd1(), ()), FileOrigin(sd1(), "ab" * 32)

    assert list(full_files(BaseFolder(strange), merge, origin, n=1)) == []
    assert list(full_files(BaseFolder(mixed), merge, origin, n=1)) == []


def _add(tensors: dict[str, np.ndarray]) -> None:
    tensors["class_embedding.weight"] = np.ones((2, 2), np.float32)


def _halve_one(tensors: dict[str, np.ndarray]) -> None:
    name = "text_model.encoder.layers.0.self_attn.k_proj.weight"
    tensors[name] = tensors[name].astype(np.float16)


PUBLISHED: dict[str, Any] = {
    "sd1": (SD1, {1, 2, 3}, {"text_encoder": (CLIPTextModel, CLIP_L)}),
    "sd2": (SD2, {1, 2, 3}, {"text_encoder": (CLIPTextModel, OPEN_CLIP_H)}),
    "sdxl": (
        SDXL,
        {0, 1},
        {
            "text_encoder": (CLIPTextModel, CLIP_L),
            "text_encoder_2": (
                CLIPTextModelWithProjection,
                {**OPEN_CLIP_G, "projection_dim": 1280},
            ),
        },
    ),
}


def _published(family: str) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Return a published pipeline without weights, and its file as the tests' own writer has it."""
    config, attended, texts = PUBLISHED[family]
    with torch.device("meta"):
        unet, coder = UNet2DConditionModel(**config), AutoencoderKL(**VAE)
        encoders = {part: kind(CLIPTextConfig(**said)) for part, (kind, said) in texts.items()}
    pipeline = {"unet": unet.state_dict(), "vae": coder.state_dict()}
    for part, model in encoders.items():
        bare = {n.removeprefix("text_model."): t for n, t in model.state_dict().items()}
        pipeline[part] = {
            n if n.startswith("text_proj") else f"text_model.{n}": t
            for n, t in bare.items()
            if t.is_floating_point()
        }
    file = {
        f"model.diffusion_model.{_unet(n, 2, attended)}": t for n, t in pipeline["unet"].items()
    }
    for name, value in pipeline["vae"].items():
        matrix = ".attentions." in name and value.ndim == 2
        file[f"first_stage_model.{_vae(name, 4)}"] = value[:, :, None, None] if matrix else value
    for part, prefix in _CLIP.get(family, {}).items():
        file |= {f"{prefix}.{n}": t for n, t in pipeline[part].items()}
    for part, prefix in _OPEN_CLIP.get(family, {}).items():
        file |= {f"{prefix}.{n}": t for n, t in _opened(pipeline[part]).items()}
    return pipeline, file


@pytest.mark.parametrize("family", PUBLISHED)
def test_the_published_models_have_the_names_of_their_own_files(family: str) -> None:
    """Every name of SD 1.5, 2.1 and XL, none more: the tests' writer spells them by itself."""
    pipeline, file = _published(family)
    shapes = {p: {n: tuple(t.shape) for n, t in named.items()} for p, named in pipeline.items()}

    names = SingleFileNames.of_pipeline(shapes)

    spots = {names.spot(part, name) for part, named in shapes.items() for name in named}
    assert None not in spots
    assert {spot.key for spot in spots if spot is not None} == set(file)
    assert len(spots) == sum(len(named) for named in shapes.values()), "no two share a place"


@pytest.mark.parametrize("program", FULL_RULES)
@pytest.mark.parametrize("family", PUBLISHED)
def test_each_program_takes_the_file_for_its_own_family(program: str, family: str) -> None:
    """What ComfyUI, Forge, A1111 and kohya's scripts look at, and no layer that they miss."""
    pipeline, file = _published(family)
    shapes = {p: {n: tuple(t.shape) for n, t in named.items()} for p, named in pipeline.items()}
    names = SingleFileNames.of_pipeline(shapes)
    ours = {
        spot.key: tuple(file[spot.key].shape)
        for part, named in shapes.items()
        for name in named
        if (spot := names.spot(part, name)) is not None
    }

    assert FULL_RULES[program](ours) == family
    for lost in (".attn2.to_k.weight", "ln_final.weight", "resblocks.0.", "transformer.text_model"):
        left = {key: shape for key, shape in ours.items() if lost not in key}
        if len(left) < len(ours) and _decides(program, family, lost):
            assert FULL_RULES[program](left) != family, lost


def _decides(program: str, family: str, lost: str) -> bool:
    """Return whether that program tells that family by this name."""
    told = {
        ("a1111", "sdxl"): "ln_final.weight",
        ("a1111", "sd2"): "resblocks.0.",
        ("comfyui", "sd1"): ".attn2.to_k.weight",
        ("comfyui", "sd2"): ".attn2.to_k.weight",
        ("comfyui", "sdxl"): ".attn2.to_k.weight",
        ("kohya", "sd1"): "transformer.text_model",
        ("kohya", "sdxl"): "ln_final.weight",
    }
    return told.get((program.replace("forge", "comfyui"), family)) == lost


def test_the_largest_tensor_is_the_most_that_is_in_memory(filled: Running) -> None:
    """Pieces of what is only copied are 1 MiB; an adapted or turned tensor comes whole."""
    spec, found = filled.house.facts.spec, filled.house.store.run(newest)
    assert found is not None
    origin = FileOrigin(spec, basis_fingerprint(spec, 0))
    with open_merge(spec, found.plan.included, filled.folder) as merge:
        (file,) = release_files(merge, origin, _base(filled), n=1, kinds=("full",))
        assert isinstance(file, TensorFile)
        largest = max(4 * math.prod(shape) for _, _, shape in file.entries)
        assert max(len(piece) for piece in file.data) <= largest
