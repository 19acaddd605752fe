"""How fine an audit of a checkpoint sees: five times what rounding can do, and no noise.

A release on a base of sixteen bits, where rounding is as large as it gets for a checkpoint that
people merge. Laws of the floors themselves: core/change.py.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from orthofed.client.base_folder import BaseFolder
from orthofed.core.basis import block
from orthofed.core.change import Dense
from orthofed.core.layer import Layer
from orthofed.core.rounding import exact, round_once
from orthofed.core.targets import tensor_names

from .serving import founded, running
from .test_audit import House, cast, half_base, house, read, verdicts, write

BEYOND = 5.0


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> House:
    path = tmp_path_factory.mktemp("half")
    with running(founded(path, make=half_base)) as coordinator:
        return house(path, "hadamard", coordinator)


def slot_block(half: House, layer: Layer, slot: int) -> np.ndarray:
    place = {"seed": half.spec.seed, "layer": layer.path, "width": layer.width}
    rank = half.spec.layer_rank(layer)
    return block("hadamard", rank=rank, slot=slot, **place).astype(np.float64)


def change_of(half: House, layer: Layer) -> Dense:
    before = BaseFolder(half.base).place(layer)
    after = BaseFolder(half.folder / "checkpoint").place(layer)
    return Dense.between(before.matrix(), after.matrix(), dtypes=(before.dtype, after.dtype))


def with_more(half: House, layer: Layer, b: np.ndarray, size: float, folder: Path) -> Path:
    """Return the checkpoint with a change of norm ``size`` more in the columns ``b`` of a layer."""
    copy = Path(shutil.copytree(half.folder / "checkpoint", folder))
    component = layer.path.partition(".")[0]
    path = next((copy / component).glob("*.safetensors"))
    tensors = read(path)
    name = next(n for n in tensor_names(layer.path) if n in tensors)
    dtype, stored = tensors[name]
    up = np.random.default_rng(5).standard_normal((layer.out, b.shape[1]))
    more = size * up / np.linalg.norm(up) @ b.T
    whole = exact(stored, "F16").astype(np.float64) + more
    tensors[name] = (dtype, round_once(whole, "F16").reshape(stored.shape))
    write(path, tensors, {"format": "pt"})
    return copy


def test_five_times_what_rounding_can_do_to_a_slot_is_named(half: House, tmp_path: Path) -> None:
    """One layer of one concept of a checkpoint; the other slots match."""
    layer = half.spec.layers[4]
    b = slot_block(half, layer, 1)
    size = BEYOND * change_of(half, layer).floor(b)

    audited = half.audit(with_more(half, layer, b, size, tmp_path / "copy"))

    assert verdicts(audited) == ["matches", "differs", "matches"]
    assert audited.findings.slots[1].layer == layer.path
    assert not audited.findings.clean


def test_five_times_what_rounding_can_leave_outside_is_named(half: House, tmp_path: Path) -> None:
    """In a free slot of one layer: nobody's, and the leased slots match."""
    layer = half.spec.layers[4]
    after = BaseFolder(half.folder / "checkpoint").place(layer).matrix()
    # Worked out here: five times a floor that is itself too wide would show nothing.
    size = BEYOND * float(np.linalg.norm(np.spacing(np.abs(after).astype(np.float16)) / 2.0))
    b = slot_block(half, layer, half.spec.capacity - 1)

    audited = half.audit(with_more(half, layer, b, size, tmp_path / "copy"))

    assert audited.findings.outside.layer == layer.path
    assert not audited.findings.clean


def test_a_checkpoint_whose_changes_are_mostly_swallowed_still_matches(
    half: House, tmp_path: Path
) -> None:
    """BF16: most entries of the change are smaller than half a unit of the weight and are gone.

    What is gone counts in full, so the floor is wide and says so; nothing honest is accused.
    """
    copy = Path(shutil.copytree(half.folder / "checkpoint", tmp_path / "checkpoint"))
    base = Path(shutil.copytree(half.base, tmp_path / "base"))
    for folder in (copy, base):
        for path in folder.rglob("*.safetensors"):
            write(path, cast(read(path), "BF16"), {"format": "pt"})

    audited = half.audit(copy)

    assert audited.dtypes == ("BF16",)
    assert verdicts(audited) == ["matches"] * 3
    assert audited.findings.clean
