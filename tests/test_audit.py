"""`orthofed audit`: whose each part of a LoRA or checkpoint is, and what of it is nobody's.

One federation of three concepts a basis family, pulled with its contributions; every case is one of
its files with one change.
"""

import json
import os
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from orthofed.client.audit_file import Audited, audit_file
from orthofed.client.contributions import Contributions
from orthofed.client.verify import verify_folder
from orthofed.core.basis import FAMILIES, Family, block
from orthofed.core.errors import InputError
from orthofed.core.lorafile import kohya_key
from orthofed.core.rounding import DType, exact, round_once
from orthofed.core.spec import FederationSpec
from orthofed.core.tensorfile import header_bytes, parse_header, read_tensor

from .serving import Running, founded, running
from .test_rebuild import pull
from .tiny_base import tiny_base

LAMBDA = 614
Tensors = dict[str, tuple[str, np.ndarray]]
LORA = "lora/wren-fed-r0001.safetensors"


@dataclass
class House:
    """One pulled release, and the base under it."""

    folder: Path
    made_of: Contributions
    base: Path

    @property
    def spec(self) -> FederationSpec:
        return self.made_of.release.federation.spec

    def audit(self, file: Path) -> Audited:
        return audit_file(file, self.made_of, base=self.base)

    def lora(self) -> Tensors:
        return read(self.folder / LORA)


def read(path: Path) -> Tensors:
    """Return name -> (type, stored values); BF16 as uint16."""
    data = path.read_bytes()
    header = parse_header(data, file_size=len(data))
    return {
        info.name: (
            info.dtype,
            read_tensor(info, data[header.data_start + info.offset :][: info.size]).copy(),
        )
        for info in header.tensors
    }


def write(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [(name, dtype, values.shape) for name, (dtype, values) in tensors.items()]
    data = b"".join(tensors[name][1].tobytes() for name in sorted(tensors))
    path.write_bytes(header_bytes(entries, metadata or {}) + data)
    return path


def cast(tensors: Tensors, dtype: DType, *, times: float = 1) -> Tensors:
    """Return the tensors in another type, each `up` multiplied first, each rounded once."""
    made: Tensors = {}
    for name, (old, values) in tensors.items():
        factor = times if name.endswith("up.weight") else 1
        whole = exact(values.reshape(-1), typing.cast("DType", old)) * factor
        made[name] = (dtype, round_once(whole, dtype).reshape(values.shape))
    return made


def house(path: Path, family: Family, coordinator: Running) -> House:
    for seed, concept in enumerate(("anna", "rex", "wren")):
        member = coordinator.member()
        packed = member.pack(member.lease(concept, (f"{concept}-k7",)), seed=seed)
        member.contribute(packed)
    coordinator.release(LAMBDA)
    pull(coordinator, path / family)
    release = verify_folder(path / family).release
    made_of = Contributions(path / family, release)
    return House(path / family, made_of, coordinator.folder.settings().base)


@pytest.fixture(scope="module", params=FAMILIES)
def any_family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> House:
    """Found a federation of each family; only its files are left."""
    path = tmp_path_factory.mktemp(request.param)
    with running(founded(path, family=request.param)) as coordinator:
        return house(path, request.param, coordinator)


@pytest.fixture(scope="module")
def hadamard(tmp_path_factory: pytest.TempPathFactory) -> House:
    path = tmp_path_factory.mktemp("hadamard")
    with running(founded(path)) as coordinator:
        return house(path, "hadamard", coordinator)


def half_base(folder: Path) -> Path:
    """Write the tiny base in float16."""
    for path in tiny_base(folder).rglob("*.safetensors"):
        write(path, cast(read(path), "F16"), {"format": "pt"})
    return folder


def test_a_checkpoint_on_a_base_of_sixteen_bits_matches(tmp_path: Path) -> None:
    """Both sides in F16: what the rounding of the merge lost is within half a unit an entry."""
    with running(founded(tmp_path, make=half_base)) as coordinator:
        half = house(tmp_path, "hadamard", coordinator)
    audited = half.audit(half.folder / "checkpoint")

    assert audited.dtypes == ("F16",)
    assert verdicts(audited) == ["matches"] * 3
    assert audited.findings.clean


def verdicts(audited: Audited) -> list[str]:
    return [found.verdict for found in audited.findings.slots]


def test_the_published_lora_is_its_contributors_and_nobody_elses(any_family: House) -> None:
    """Each slot matches its leaf; shares add up to 1; lambda is found to the file's precision."""
    audited = any_family.audit(any_family.folder / LORA)
    found = audited.findings

    assert verdicts(audited) == ["matches"] * 3
    assert found.clean
    shares = [s.share for s in found.slots if s.share is not None]
    assert len(shares) == 3
    assert sum(shares) + found.outside.share == pytest.approx(1, abs=1e-6)
    assert [s.lambda_found for s in found.slots] == pytest.approx([LAMBDA / 1024] * 3, rel=1e-3)
    assert [s.leased.concept for s in found.slots] == ["anna", "rex", "wren"]
    assert all(0 < s.error < s.floor for s in found.slots)


def test_the_published_checkpoint_is_too(any_family: House) -> None:
    """Against its base: every adapted weight by slots, every other tensor the base's own."""
    audited = any_family.audit(any_family.folder / "checkpoint")

    assert (audited.kind, verdicts(audited)) == ("checkpoint", ["matches"] * 3)
    assert audited.findings.clean
    assert audited.findings.outside.share < 1e-9


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_a_copy_in_another_type_still_matches(dtype: DType, hadamard: House, tmp_path) -> None:
    """Rounded once more, or held exactly: within the floor of the coarsest type that holds it."""
    audited = hadamard.audit(write(tmp_path / "x.safetensors", cast(hadamard.lora(), dtype)))

    assert verdicts(audited) == ["matches"] * 3
    assert audited.findings.clean


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_one_percent_more_of_everything_is_another_weight(dtype, hadamard: House, tmp_path) -> None:
    """Every `up` times 1.01: the numbers are the contributors', at a weight that nobody signed."""
    more = cast(hadamard.lora(), dtype, times=1.01)
    audited = hadamard.audit(write(tmp_path / "x.safetensors", more))

    # In 32 bits the errors of the 16-bit original show beside the weight.
    assert verdicts(audited) == (["differs"] if dtype == "F32" else ["another weight"]) * 3
    assert audited.findings.slots[0].lambda_found == pytest.approx(0.6056, rel=1e-3)
    assert not audited.findings.clean


def test_one_layer_of_one_concept_changed_by_a_percent_is_named(hadamard: House, tmp_path) -> None:
    """The slot and the layer; the others match."""
    tensors, layer = hadamard.lora(), hadamard.spec.layers[7].path
    tensors[f"{kohya_key(layer)}.lora_up.weight"][1][:, 4:8] *= np.float16(1.01)
    audited = hadamard.audit(write(tmp_path / "x.safetensors", tensors))

    assert verdicts(audited) == ["matches", "differs", "matches"]
    assert audited.findings.slots[1].layer == layer
    assert audited.findings.slots[1].error == pytest.approx(0.01, rel=0.1)


def extended(tensors: Tensors, key: str, up: np.ndarray, down: np.ndarray) -> None:
    """Add columns to one module of a LoRA, and zeros to none: ranks may differ in a file."""
    (d, before), (_, below) = tensors[f"{key}.lora_up.weight"], tensors[f"{key}.lora_down.weight"]
    joined = np.concatenate([before, up.astype("<f2")], axis=1)
    tensors[f"{key}.lora_up.weight"] = (d, joined)
    tensors[f"{key}.lora_down.weight"] = (d, np.concatenate([below, down.astype("<f2")]))
    tensors[f"{key}.alpha"] = (d, np.array(joined.shape[1], "<f2"))


def test_energy_in_a_free_slot_is_seen_and_called_so(hadamard: House, tmp_path) -> None:
    """A fourth concept that no lease knows, a hundredth of the others in size, in one layer."""
    tensors, layer = hadamard.lora(), hadamard.spec.layers[3]
    slot = hadamard.spec.capacity - 1
    b = block(
        "hadamard", seed=hadamard.spec.seed, layer=layer.path, width=layer.width, rank=4, slot=slot
    )
    up = np.random.default_rng(1).standard_normal((layer.out, 4)) * 1e-4
    extended(tensors, kohya_key(layer.path), up, b.T)
    found = hadamard.audit(write(tmp_path / "x.safetensors", tensors)).findings

    assert not found.clean
    assert found.outside.layer == layer.path
    assert found.outside.free == pytest.approx(found.outside.share, rel=1e-2)


def test_dense_noise_is_outside(hadamard: House, tmp_path) -> None:
    """A direction that no slot owns: most of it in nobody's columns, some in each slot's."""
    tensors, layer = hadamard.lora(), hadamard.spec.layers[3]
    rng = np.random.default_rng(2)
    up, down = rng.standard_normal((layer.out, 1)) * 1e-3, rng.standard_normal((1, layer.width))
    extended(tensors, kohya_key(layer.path), up, down)
    audited = hadamard.audit(write(tmp_path / "x.safetensors", tensors))

    assert audited.findings.outside.layer == layer.path
    assert set(verdicts(audited)) == {"differs"}


def test_a_concept_that_was_taken_out_is_absent(hadamard: House, tmp_path) -> None:
    """Its columns are zeros: the file is the other two's, and that is no fault."""
    tensors = hadamard.lora()
    for name, (_, values) in tensors.items():
        if name.endswith("lora_up.weight"):
            values[:, 4:8] = 0
    audited = hadamard.audit(write(tmp_path / "x.safetensors", tensors))

    assert verdicts(audited) == ["matches", "absent", "matches"]
    assert audited.findings.clean
    single = hadamard.audit(hadamard.folder / "concepts" / "wren-fed-rex.safetensors")
    assert verdicts(single) == ["absent", "matches", "absent"]


def test_a_layer_that_was_taken_out_is_named(hadamard: House, tmp_path) -> None:
    """A file without one of the spec's layers lacks a part of every concept."""
    tensors, layer = hadamard.lora(), hadamard.spec.layers[5].path
    for name in [name for name in tensors if name.startswith(kohya_key(layer) + ".")]:
        del tensors[name]
    audited = hadamard.audit(write(tmp_path / "x.safetensors", tensors))

    assert verdicts(audited) == ["differs"] * 3
    assert {found.layer for found in audited.findings.slots} == {layer}


def test_a_module_that_nobody_adapts_is_foreign(hadamard: House, tmp_path) -> None:
    """A convolution beside the honest LoRA, and a tensor without a meaning: both are named."""
    tensors = hadamard.lora()
    key = "lora_unet_conv_in"
    tensors[f"{key}.lora_up.weight"] = ("F16", np.full((24, 2, 1, 1), 0.1, "<f2"))
    tensors[f"{key}.lora_down.weight"] = ("F16", np.full((2, 4, 3, 3), 0.1, "<f2"))
    tensors[f"{key}.alpha"] = ("F16", np.array(2, "<f2"))
    tensors["lora_unet_conv_in.dora_scale"] = ("F16", np.ones(3, "<f2"))
    found = hadamard.audit(write(tmp_path / "x.safetensors", tensors)).findings

    assert [name for name, _ in found.foreign] == [key]
    assert found.foreign[0][1] > 0
    assert found.strange == ("lora_unet_conv_in.dora_scale",)
    assert not found.clean


def test_a_foreign_lora_is_nobodys(hadamard: House, tmp_path) -> None:
    """Random factors for the same layers: each slot has r / m of it by chance, and none matches."""
    rng = np.random.default_rng(3)
    tensors: Tensors = {}
    for name, (_, values) in hadamard.lora().items():
        small = (rng.standard_normal(values.shape) * 0.02).astype("<f2")
        tensors[name] = ("F16", np.array(8, "<f2") if name.endswith("alpha") else small)
    audited = hadamard.audit(write(tmp_path / "x.safetensors", tensors))

    assert verdicts(audited) == ["differs"] * 3
    assert audited.findings.outside.share > 0.5


SPELLINGS: dict[str, Callable[[str], tuple[str, str]]] = {
    "diffusers": lambda path: (f"{path}.lora_B.weight", f"{path}.lora_A.weight"),
    "diffusers without text_model": lambda path: (
        f"{path.replace('text_model.', '')}.lora_B.weight",
        f"{path.replace('text_model.', '')}.lora_A.weight",
    ),
    "PEFT": lambda path: (
        f"base_model.model.{path.partition('.')[2]}.lora_B.weight",
        f"base_model.model.{path.partition('.')[2]}.lora_A.weight",
    ),
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=list(SPELLINGS))
def test_other_spellings_are_read(spell, hadamard: House, tmp_path) -> None:
    """The same numbers under diffusers' and PEFT's names, alpha in the metadata or unsaid."""
    tensors: Tensors = {}
    before = hadamard.lora()
    for layer in hadamard.spec.layers:
        up, down = spell(layer.path)
        tensors[up] = before[f"{kohya_key(layer.path)}.lora_up.weight"]
        tensors[down] = before[f"{kohya_key(layer.path)}.lora_down.weight"]
    said = {f"{c}.{k}": 12 for c in ("unet", "text_encoder") for k in ("lora_alpha", "r")}
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(said)}
    audited = hadamard.audit(write(tmp_path / "x.safetensors", tensors, metadata))

    assert verdicts(audited) == ["matches"] * 3
    assert audited.findings.clean


BAD: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda data: data[:-1],
    "a tail": lambda data: data + b"x",
    "no header": lambda _: b"\x80\x04." + bytes(200),
    "a header of 2^60 bytes": lambda data: (1 << 60).to_bytes(8, "little") + data[8:],
    "not finite": lambda data: data[:-2] + b"\x00\x7c",
    "a key twice": lambda data: data.replace(b"lora_down", b"lora_up\x00\x00", 1),
}


@pytest.mark.parametrize("harm", BAD.values(), ids=list(BAD))
def test_a_hostile_file_is_refused_by_the_strict_reader(harm, hadamard: House, tmp_path) -> None:
    """T8: exit code 2 and what is wrong, before any number is looked at."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(harm((hadamard.folder / LORA).read_bytes()))

    with pytest.raises(InputError):
        hadamard.audit(path)


def test_a_file_of_another_base_and_half_a_lora_are_refused(hadamard: House, tmp_path) -> None:
    """Other sizes, one side missing, no LoRA at all, scales that loaders read differently."""
    layer = hadamard.spec.layers[0]
    key = kohya_key(layer.path)
    good = hadamard.lora()
    wide = {**good, f"{key}.lora_down.weight": ("F16", np.ones((12, layer.width + 8), "<f2"))}
    half = {name: value for name, value in good.items() if name != f"{key}.lora_down.weight"}
    path = layer.path
    cases: list[tuple[Tensors, dict[str, str]]] = [
        (wide, {}),
        (half, {}),
        ({"x": ("F16", np.ones(2, "<f2"))}, {}),
        (
            {
                f"{path}.lora_B.weight": good[f"{key}.lora_up.weight"],
                f"{path}.lora_A.weight": good[f"{key}.lora_down.weight"],
            },
            {
                "lora_adapter_metadata": json.dumps(
                    {f"{path.partition('.')[0]}.alpha_pattern": {"x": 1}}
                )
            },
        ),
    ]

    for tensors, metadata in cases:
        with pytest.raises(InputError) as caught:
            hadamard.audit(write(tmp_path / "x.safetensors", tensors, metadata))
        assert caught.value.code == "bad-adapter"
        assert "a plain LoRA of this base model" in caught.value.fix


def test_a_checkpoint_with_a_changed_norm_is_not_the_releases(hadamard: House, tmp_path) -> None:
    """One number of a layer that nobody adapts: named, with its component."""
    copy = Path(shutil.copytree(hadamard.folder / "checkpoint", tmp_path / "checkpoint"))
    path = copy / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = read(path)
    tensors["conv_norm_out.weight"][1][3] += np.float32(0.01)
    write(path, tensors, {"format": "pt"})
    changed = hadamard.audit(copy).findings
    del tensors["conv_norm_out.bias"]
    write(path, tensors, {"format": "pt"})
    lacking = hadamard.audit(copy).findings

    assert [name for name, _ in changed.foreign] == ["unet/conv_norm_out.weight"]
    assert (changed.strange, changed.clean) == ((), False)
    assert lacking.strange == ("unet/conv_norm_out.bias is missing",)
    assert [s.verdict for s in changed.slots] == ["matches"] * 3


def test_a_checkpoint_needs_its_own_base(hadamard: House) -> None:
    """Without --base, or with another one, nothing is said: exit code 2."""
    with pytest.raises(InputError, match="--base"):
        audit_file(hadamard.folder / "checkpoint", hadamard.made_of, base=None)
    with pytest.raises(InputError, match="fingerprint"):
        audit_file(
            hadamard.folder / "checkpoint",
            hadamard.made_of,
            base=hadamard.folder / "checkpoint",
        )


def test_a_checkpoint_cast_to_half_keeps_within_half_its_units(hadamard: House, tmp_path) -> None:
    """F32 to F16, as people do: slots within the floor, untouched tensors within their rounding."""
    copy = Path(shutil.copytree(hadamard.folder / "checkpoint", tmp_path / "checkpoint"))
    for path in copy.rglob("*.safetensors"):
        write(path, cast(read(path), "F16"), {"format": "pt"})
    audited = hadamard.audit(copy)

    assert verdicts(audited) == ["matches"] * 3
    assert audited.findings.clean
    assert audited.findings.slots[0].floor > 1e-4  # a sixteen-bit checkpoint tells less than a LoRA


def test_the_command_prints_a_table_or_json_and_ends_with_4(hadamard: House, tmp_path) -> None:
    """An honest file: 0 and a row a slot. One with a stranger in it: 4, and the stranger's name."""
    command = [sys.executable, "-P", "-m", "orthofed", "audit", "--release", str(hadamard.folder)]
    tensors = hadamard.lora()
    tensors["more.diff"] = ("F16", np.ones(2, "<f2"))
    bad = write(tmp_path / "bad.safetensors", tensors)

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], capture_output=True, text=True, check=False)

    told, machine = run(str(hadamard.folder / LORA)), run(str(bad), "--json")

    assert told.returncode == 0, told.stderr
    assert "matches leaf" in told.stdout
    assert "every part of it is a contribution's" in told.stdout
    assert machine.returncode == 4
    assert json.loads(machine.stdout)["strange"] == ["more.diff"]


def test_what_was_not_compared_is_called_nobodys_word(hadamard: House, tmp_path) -> None:
    """Without contributions a tampered slot cannot be seen: exit code 0, and not called clean."""
    bare = Path(shutil.copytree(hadamard.folder, tmp_path / "bare"))
    shutil.rmtree(bare / "trust" / "contributions")
    tensors = hadamard.lora()
    for name, (_, values) in tensors.items():
        if name.endswith("lora_up.weight"):
            values[:, 4:8] *= 3
    bad = write(tmp_path / "bad.safetensors", tensors)
    command = [sys.executable, "-P", "-m", "orthofed", "audit", str(bad), "--release", str(bare)]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], capture_output=True, text=True, check=False)

    told, machine = run(), run("--json")

    assert (told.returncode, machine.returncode) == (0, 0)
    assert "nothing outside of leased slots; what is in them was not compared" in told.stdout
    assert "as the release says" not in told.stdout
    assert "pull the release with --contributions" in told.stdout
    said = json.loads(machine.stdout)
    assert (said["told"], said["clean"]) == (False, False)
    assert {each["verdict"] for each in said["slots"]} == {"not compared"}


def test_a_link_stands_for_a_folder_and_leaves_nothing(tmp_path: Path) -> None:
    """The newest release is fetched as far as an audit needs it, into a folder that then goes."""
    with running(founded(tmp_path)) as coordinator:
        own = house(tmp_path, "hadamard", coordinator)
        command = [sys.executable, "-P", "-m", "orthofed", "audit", str(own.folder / LORA)]
        more = ["--release", coordinator.desk.link(), "--home", str(tmp_path / "home"), "--json"]
        temporary = tmp_path / "tmp"
        temporary.mkdir()
        done = subprocess.run(
            [*command, *more],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TMPDIR": str(temporary)},
        )

    assert done.returncode == 0, done.stderr
    assert [slot["verdict"] for slot in json.loads(done.stdout)["slots"]] == ["matches"] * 3
    assert list(temporary.glob("orthofed-audit-*")) == []
