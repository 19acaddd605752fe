"""`orthofed audit` of a checkpoint in one file, as web UIs take it: its folder's own report.

A real release of each family; its checkpoint is written as one file by the tests' own writer, whose
way back is diffusers' (test_fetch_base.py).
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from orthofed.client.audit_file import Audited, audit_file
from orthofed.client.audit_view import as_dict, as_text
from orthofed.core.errors import InputError
from orthofed.core.rounding import DType

from .serving import founded, running
from .single_file import write_single_file
from .test_audit import House, Tensors, cast, house, read, verdicts, write
from .tiny_base import tiny_base
from .tiny_families import tiny_sd2, tiny_sdxl

FAMILIES: dict[str, tuple[Callable[[Path], Path], int]] = {
    "sd1": (tiny_base, 1),
    "sd2": (tiny_sd2, 2),
    "sdxl": (tiny_sdxl, 2),
}
TOKENS = {
    "sd1": "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    "sd2": "cond_stage_model.model.token_embedding.weight",
    "sdxl": "conditioner.embedders.1.model.token_embedding.weight",
}


@dataclass
class Single:
    """A pulled release, its checkpoint as one file, and the base as one."""

    family: str
    house: House
    file: Path
    base: Path

    def audit(self, file: Path, base: Path | None = None) -> Audited:
        return House(self.house.folder, self.house.made_of, base or self.house.base).audit(file)

    def changed(self, path: Path, change: Callable[[Tensors], None]) -> Path:
        tensors = read(self.file)
        change(tensors)
        return write(path, tensors)


@pytest.fixture(scope="module", params=FAMILIES)
def single(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Single:
    family: str = request.param
    make, each = FAMILIES[family]
    path = tmp_path_factory.mktemp(family)
    with running(founded(path, make=make)) as coordinator:
        made = house(path, "hadamard", coordinator)
    told = {"each": each, "blocks": 2, "family": family}
    file = write_single_file(made.folder / "checkpoint", path / "merged.safetensors", **told)
    return Single(
        family, made, file, write_single_file(made.base, path / "base.safetensors", **told)
    )


def report(audited: Audited, single: Single) -> dict[str, object]:
    found = as_dict(audited, single.house.made_of.release.manifest)
    return {name: value for name, value in found.items() if name not in ("base_sha256", "unread")}


def test_a_merge_in_one_file_gives_the_report_of_its_folder(single: Single) -> None:
    """Beside the base's folder and beside its one file: every figure is the same."""
    folder = single.audit(single.house.folder / "checkpoint")
    beside_folder, beside_file = (
        single.audit(single.file),
        single.audit(single.file, single.base),
    )
    backwards = single.audit(single.house.folder / "checkpoint", single.base)

    assert verdicts(folder) == ["matches"] * 3
    assert folder.findings.clean
    wanted = report(folder, single)
    assert [report(a, single) for a in (beside_folder, beside_file, backwards)] == [wanted] * 3
    assert (folder.base_sha256, beside_folder.base_sha256) == ("", "")
    assert beside_file.base_sha256 == backwards.base_sha256 != ""


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_a_copy_in_sixteen_bits_matches_too(single: Single, dtype: DType, tmp_path: Path) -> None:
    """As people pass checkpoints on: within half a unit of its type, in layers and all others."""
    copy = write(tmp_path / "x.safetensors", cast(read(single.file), dtype))

    for base in (single.house.base, single.base):
        audited = single.audit(copy, base)
        assert audited.dtypes == (dtype,)
        assert verdicts(audited) == ["matches"] * 3
        assert audited.findings.clean


def test_one_number_of_any_other_tensor_is_outside(single: Single, tmp_path: Path) -> None:
    """Each kind of tensor that nobody adapts, one entry by a percent: it alone is named."""
    tensors = read(single.file)
    unet = "model.diffusion_model."
    kinds = (
        *(f"{unet}input_blocks.0.0.weight", f"{unet}time_embed.2.bias", f"{unet}out.0.weight"),
        *(next(n for n in tensors if n.endswith(".attn2.to_out.0.bias")), TOKENS[single.family]),
        *(next(n for n in tensors if end in n) for end in ("in_layers.2.w", ".ff.net.2.w")),
        *(next(n for n in tensors if end in n) for end in ("decoder.mid.attn_1.q", "encoder.conv")),
        *(n for n in tensors if n.endswith((".0.attn.in_proj_bias", ".text_projection"))),
    )
    for name in kinds:
        changed = single.changed(tmp_path / "x.safetensors", lambda t, n=name: nudge(t, n))
        for base in (single.house.base, single.base):
            found = single.audit(changed, base).findings
            assert not found.clean, name
            assert len(found.foreign) == 1, (name, found.foreign)
            assert found.foreign[0][1] == pytest.approx(found.outside.share, rel=1e-3)
            assert [s.verdict for s in found.slots] == ["matches"] * 3


def nudge(tensors: Tensors, name: str) -> None:
    values = tensors[name][1].reshape(-1)
    at = int(np.argmax(np.abs(values)))
    values[at] = values[at] * np.float32(1.01) + np.float32(0.01)


def test_a_tensor_more_and_one_less_are_named(single: Single, tmp_path: Path) -> None:
    """Averages of a training beside the weights, and a VAE without a bias."""
    averages = "model_ema.diffusion_modelout2weight"
    less = "first_stage_model.decoder.conv_out.bias"

    def change(tensors: Tensors) -> None:
        tensors[averages] = ("F32", np.ones((2, 2), "<f4"))
        tensors["betas"] = ("F32", np.ones(1000, "<f4"))
        tensors["first_stage_model.loss.logvar"] = ("F32", np.array(1, "<f4"))
        del tensors[less]

    found = single.audit(single.changed(tmp_path / "x.safetensors", change))
    both = single.audit(tmp_path / "x.safetensors", single.base)

    assert {n for n, _ in found.findings.foreign} == {averages, "first_stage_model.loss.logvar"}
    assert found.findings.strange == ("vae/decoder.conv_out.bias is missing",)
    assert found.unread == ("betas",), "no loader reads it, and the folder has nothing beside it"
    assert "1 tensors that no loader draws with" in as_text(
        found, single.house.made_of.release.manifest
    )
    assert both.findings.strange == (f"{less} is missing",)
    assert "betas" in {n for n, _ in both.findings.foreign}, "beside a file all is compared"


def test_a_changed_slot_is_named_in_one_file_too(single: Single, tmp_path: Path) -> None:
    """A percent more in one layer: the weights of q, k and v lie in one tensor for OpenCLIP."""
    end = {"sd1": "layers.1.self_attn.k_proj.weight"}.get(single.family, "1.attn.in_proj_weight")

    def change(tensors: Tensors) -> None:
        name = next(n for n in tensors if n.endswith(end))
        values = tensors[name][1]
        third = (
            slice(0, None)
            if single.family == "sd1"
            else slice(len(values) // 3, -(len(values) // 3))
        )
        values[third] *= np.float32(1.01)

    found = single.audit(single.changed(tmp_path / "x.safetensors", change), single.base).findings

    assert found.outside.layer.endswith("layers.1.self_attn.k_proj")
    assert not found.foreign


def test_another_base_is_refused_in_words(single: Single, tmp_path: Path) -> None:
    """A folder by its fingerprint; a file that has little in common, or other shapes; no base."""

    def other(tensors: Tensors) -> None:
        for name in tensors:
            nudge(tensors, name)

    tensors = read(single.base)
    other(tensors)
    stranger = write(tmp_path / "other.safetensors", tensors)
    name = next(n for n in tensors if n.endswith(".attn2.to_k.weight"))
    tensors[name] = ("F32", np.ones((3, 3), "<f4"))
    wide = write(tmp_path / "wide.safetensors", tensors)
    del tensors[name]
    short = write(tmp_path / "short.safetensors", tensors)

    for base, code, said in (
        (single.house.folder / "checkpoint", "wrong-base", "fingerprint"),
        (stranger, "wrong-base", "of the UNet are not the base's"),
        (wide, "not-the-base", "has shape (3, 3)"),
        (short, "not-the-base", "short.safetensors has no unet."),
        (single.house.folder / "embeddings" / "anna-k7.safetensors", "bad-adapter", "checkpoint"),
    ):
        with pytest.raises(InputError) as caught:
            single.audit(single.file, base)
        assert (caught.value.code, caught.value.exit_code) == (code, 2), base
        assert said in caught.value.what
    with pytest.raises(InputError, match="--base is missing"):
        audit_file(single.file, single.house.made_of, base=None)


def test_the_command_takes_a_file_for_a_base(single: Single) -> None:
    """Exit code 0; the base that was taken as given is named by its hash."""
    command = [sys.executable, "-P", "-m", "orthofed", "audit", str(single.file)]
    command += ["--release", str(single.house.folder), "--base", str(single.base)]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], capture_output=True, text=True, check=False)

    told = run()
    found = json.loads(run("--json").stdout)

    assert told.returncode == 0, told.stderr
    assert f"the base was taken as given, SHA-256 {found['base_sha256']}" in told.stdout
    assert (found["kind"], found["clean"]) == ("checkpoint", True)
