"""What columns hear while a base draws: against O^T x by hand, and the ways it is asked for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orthofed.client.base import Base
from orthofed.client.column_energies import column_energies, energies
from orthofed.coordinator.base import BaseFolder
from orthofed.coordinator.columns import (
    MOST_PROMPTS,
    SHIPPED,
    check_energies,
    measured,
    read_prompts,
)
from orthofed.core.basis import Family, block
from orthofed.core.errors import InputError, VerificationFailed
from orthofed.core.spec import FederationSpec, plan_spec

from .coordinator_process import run
from .test_spec import BASE
from .tiny_base import tiny_base


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_base(tmp_path_factory.mktemp("columns") / "base")


def _spec(folder: Path, basis: Family) -> FederationSpec:
    base = BaseFolder(folder)
    return plan_spec(
        name="tiny",
        base=BASE,
        layers=base.layers("all"),
        encoders=base.encoders(),
        seed=bytes(range(32)),
        basis=basis,
        rank=1,
    )


@pytest.mark.parametrize("basis", ["hadamard", "haar"])
def test_a_column_hears_its_product_with_every_input(folder: Path, basis: Family) -> None:
    """Linear layers and convolutions, against blocks of core/basis.py and inputs seen by a hook."""
    spec, base = _spec(folder, basis), Base.load(folder)
    seen: dict[str, list[torch.Tensor]] = {layer.path: [] for layer in spec.layers}

    def keep(path: str):
        return lambda _, args: seen[path].append(args[0].detach())

    hooks = [base.layer(p).register_forward_pre_hook(keep(p)) for p in seen]
    with torch.no_grad(), energies(base, spec) as summed:
        for text in ("a fox", "two red cats"):
            states = torch.randn(1, 77, 48, generator=torch.Generator().manual_seed(len(text)))
            base.family.denoiser(torch.randn(base.latent_shape)[None], 500, states)
    for hook in hooks:
        hook.remove()

    looked = 0
    for layer in spec.layers:
        total, count = summed[layer.path]
        xs = [_rows(x, layer.kernel, base.layer(layer.path)) for x in seen[layer.path]]
        if not xs:
            assert count == 0
            continue
        looked += 1
        x = torch.cat(xs).double().numpy()
        columns = np.hstack(
            [
                block(basis, seed=spec.seed, layer=layer.path, width=layer.width, rank=1, slot=c)
                for c in range(layer.width)
            ]
        ).astype(np.float64)
        assert count == len(x)
        assert total == pytest.approx(((x @ columns) ** 2).sum(0), rel=1e-3), layer.path
    assert looked > len(spec.layers) // 2


def _rows(x: torch.Tensor, kernel: tuple[int, ...], target: Any) -> torch.Tensor:
    """Return a layer's inputs as rows; a patch is read from its definition, pixel by pixel."""
    if not kernel:
        return x.reshape(-1, x.shape[-1])
    (stride, _), (pad, _) = target.stride, target.padding
    x = torch.nn.functional.pad(x, (pad, pad, pad, pad))
    high, wide = kernel
    return torch.stack(
        [
            x[0, :, i : i + high, j : j + wide].reshape(-1)
            for i in range(0, x.shape[2] - high + 1, stride)
            for j in range(0, x.shape[3] - wide + 1, stride)
        ]
    )


def test_the_coordinator_asks_a_process_of_its_own(folder: Path) -> None:
    """The same numbers, read from the file that the process leaves."""
    spec = _spec(folder, "hadamard")

    found = measured(spec, folder, ["a fox", "a cat"])

    by_hand = column_energies(folder, spec, ["a fox", "a cat"], "cpu")
    assert {*found} == {layer.path for layer in spec.layers}
    for path, energy in by_hand.items():
        assert found[path] == pytest.approx(energy, rel=1e-4), path


def test_energies_that_no_base_gives_are_refused(folder: Path) -> None:
    """A layer that is missing, has a number too few, or one that is none or below 0."""
    spec = _spec(folder, "hadamard")
    good = {layer.path: np.ones(layer.width) for layer in spec.layers}
    layer = spec.layers[3]
    check_energies(spec, good)
    for bad in (np.zeros(0), np.ones(layer.width - 1), *(_with(layer.width, x) for x in WRONG)):
        with pytest.raises(VerificationFailed, match=layer.path) as caught:
            check_energies(spec, {**good, layer.path: bad})
        assert caught.value.code == "bad-energies"


WRONG = (np.nan, np.inf, -1.0)


def _with(width: int, number: float) -> np.ndarray:
    energy = np.ones(width)
    energy[-1] = number
    return energy


def test_a_plan_shows_what_a_quiet_slot_hears(folder: Path, tmp_path: Path) -> None:
    """Less than 1 where columns are left over, 1 where they are all used, nothing if not asked."""
    (tmp_path / "prompts.txt").write_text("a fox\n\n  a cat \n")
    ask = ("plan", "--base", str(folder), "--rank", "4", "--quiet-columns")

    full = json.loads(run(*ask, str(tmp_path / "prompts.txt"), "--json").stdout)
    some = json.loads(run(*ask, SHIPPED, "--capacity", "3", "--json").stdout)
    plain = json.loads(run(*ask[:-1], "--json").stdout)

    narrowest = min(full["widths"], key=lambda each: each["width"])
    assert narrowest["slots"] == full["slots"]
    assert narrowest["heard"] == 1
    assert all(each["heard"] < 0.9 for each in some["widths"])
    assert all("heard" not in each for each in plain["widths"])


def test_prompts_that_nobody_can_draw_are_refused(tmp_path: Path) -> None:
    """No file, no text, nothing in it, too much of it, a line too long: each with its bound."""
    place = tmp_path / "prompts.txt"
    assert len(read_prompts(SHIPPED)) > 10
    for data in (None, b"\xff\xfe", b" \n\n", b"a\n" * (MOST_PROMPTS + 1), b"x" * 301):
        if data is not None:
            place.write_bytes(data)
        with pytest.raises(InputError, match=str(place)) as caught:
            read_prompts(str(place))
        assert caught.value.code == "bad-prompts"
    place.write_bytes(b"a\n" * MOST_PROMPTS)
    assert len(read_prompts(str(place))) == MOST_PROMPTS


def test_a_published_models_shapes_draw_no_prompts() -> None:
    """There is no base to listen to."""
    refused = run("plan", "--family", "sd15", "--quiet-columns", SHIPPED, check=False)

    assert refused.returncode == 2
    assert "--quiet-columns without a base model's folder" in refused.stderr


def test_a_basis_without_columns_is_refused_before_anything_is_drawn(
    folder: Path, tmp_path: Path
) -> None:
    """Blocks of gaussian are drawn one by one; no folder is made, no prompt is drawn."""
    words = ("coordinator", "init", str(tmp_path / "fed"), "--base", str(folder), "--name", "tiny")
    refused = run(*words, "--basis", "gaussian", "--quiet-columns", SHIPPED, check=False)

    assert refused.returncode == 2
    assert "quiet columns of the basis gaussian" in refused.stderr
    assert "drawing" not in refused.stderr
    assert not (tmp_path / "fed").exists()
