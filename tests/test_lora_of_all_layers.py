"""A LoRA over every layer of `--targets all` is the dense merge in diffusers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from orthofed.client.base import Base
from orthofed.core.layout import ContributionLayout, unpack
from orthofed.core.merge import Term, residual

from .member import random_blob
from .tiny_base import tiny_base
from .tiny_concept import tiny_spec
from .tiny_families import tiny_sd2, tiny_sdxl
from .tiny_release import block_of, write_release

LAMBDA_1024 = 614
CASES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "sd1": (tiny_base, "sd1"),
    "sd2": (tiny_sd2, "other"),
    "sdxl": (tiny_sdxl, "sdxl"),
    "two encoders under diffusers' names": (tiny_sdxl, "other"),
}
EULER = pytest.mark.filterwarnings(  # diffusers' scheduler, with numpy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@EULER
@pytest.mark.parametrize(("make", "family"), CASES.values(), ids=CASES)
def test_every_weight_fused_by_diffusers_equals_the_dense_merge(
    tmp_path: Path, make: Callable[[Path], Path], family: str
) -> None:
    """Attention, MLPs, time projections, convolutions: 1e-5 of the largest entry of each dW.

    Every other weight is as it was, so no key went to a wrong layer.
    """
    base = make(tmp_path / "base")
    spec = tiny_spec(base, family=family, targets="all")
    layout = ContributionLayout(spec, (2,))
    contributions = [
        (slot, f"anna-k{slot}", unpack(layout, random_blob(spec, (2,), seed=slot, size=0.02)))
        for slot in range(2)
    ]
    release = write_release(tmp_path, spec, contributions, lambda_1024=LAMBDA_1024, dtype="F32")
    pipeline: Any = DiffusionPipeline.from_pretrained(base, local_files_only=True)

    pipeline.load_lora_weights(release / "lora", weight_name="tiny-r0001.safetensors")
    pipeline.fuse_lora(components=[n for n in pipeline.components if n in _COMPONENTS])
    pipeline.unload_lora_weights()

    plain = Base.load(base)
    adapted = set[int]()
    for layer in spec.layers:
        component, _, inside = layer.path.partition(".")
        terms = [
            Term(t[f"a.{layer.path}"].q, t[f"a.{layer.path}"].exponent, LAMBDA_1024, block)
            for slot, _, t in contributions
            for block in [block_of(spec, layer.path, slot)]
        ]
        delta = residual(terms, family=spec.basis, width=layer.width, out=layer.out)
        before = plain.layer(layer.path).weight.double().numpy()
        path = inside.removeprefix("text_model.") if component == "text_encoder" else inside
        weight = getattr(pipeline, component).get_submodule(path).weight
        adapted.add(id(weight))
        fused = weight.detach().double().numpy()
        assert fused.shape == layer.shape
        difference = np.abs(fused - (before + delta.reshape(before.shape))).max()
        assert difference <= 1e-5 * np.abs(delta).max(), layer.path
    for component, module in plain.family.components.items():
        theirs = dict(getattr(pipeline, component).named_parameters())
        for name, value in module.named_parameters():
            if id(theirs[name]) not in adapted:
                assert np.array_equal(theirs[name].detach().numpy(), value.numpy()), name


_COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
