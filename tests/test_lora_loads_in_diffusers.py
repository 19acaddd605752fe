"""The merged LoRA is the dense merge, in the loader that consumers use.

A fp32 kohya file is stacked from quantised contributions (core/stack.py), loaded through diffusers'
`load_lora_weights`, fused, and every adapted weight is compared with
float64(W) + dW of core/merge.py.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from orthofed.core.merge import Term, residual
from orthofed.core.quantise import Quantised, dequantise, quantise
from orthofed.core.spec import FederationSpec

from .tiny_concept import Bench, bench
from .tiny_release import block_of, write_release

TRIGGERS = ("anna-k7", "rex-p2", "old-mug4")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("lora"))


def _pipeline(tiny: Bench) -> Any:
    return DiffusionPipeline.from_pretrained(tiny.base.folder, local_files_only=True)


def _contribution(spec: FederationSpec, slot: int) -> dict[str, Quantised]:
    random = np.random.default_rng(slot)
    tensors = {
        f"a.{layer.path}": quantise(
            (random.standard_normal((layer.out, spec.layer_rank(layer))) * 0.02).astype(np.float32)
        )
        for layer in spec.layers
    }
    vectors = random.standard_normal((2, 48)).astype(np.float32)
    return {**tensors, "embed.text_encoder.0": quantise(vectors, low=-40, high=0)}


def test_the_stacked_lora_in_diffusers_equals_the_dense_merge(tiny: Bench, tmp_path: Path) -> None:
    """Three concepts at lambda 0.6, UNet and text encoder, 1e-5 of the largest entry of dW."""
    spec, lambda_1024 = tiny.spec, 614
    contributions = [(s, name, _contribution(spec, s)) for s, name in enumerate(TRIGGERS)]
    release = write_release(tmp_path, spec, contributions, lambda_1024=lambda_1024, dtype="F32")
    pipeline = _pipeline(tiny)

    pipeline.load_lora_weights(release / "lora", weight_name="tiny-r0001.safetensors")
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()

    loaded = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
    for layer in spec.layers:
        component, _, inside = layer.path.partition(".")
        terms = [
            Term(t[f"a.{layer.path}"].q, t[f"a.{layer.path}"].exponent, lambda_1024, block)
            for slot, _, t in contributions
            for block in [block_of(spec, layer.path, slot)]
        ]
        delta = residual(terms, family=spec.basis, width=layer.width, out=layer.out)
        dense = tiny.base.layer(layer.path).weight.double().numpy() + delta
        module = loaded[component].get_submodule(inside.removeprefix("text_model."))
        fused = module.weight.detach().double().numpy()
        assert np.abs(fused - dense).max() <= 1e-5 * np.abs(delta).max(), layer.path


def test_a_learned_trigger_loads_as_a_textual_inversion(tiny: Bench, tmp_path: Path) -> None:
    """The embedding file's key becomes the token; its rows are the contribution's, to the bit."""
    contribution = _contribution(tiny.spec, 0)
    release = write_release(tmp_path, tiny.spec, [(0, "anna-k7", contribution)])
    pipeline = _pipeline(tiny)

    pipeline.load_textual_inversion(release / "embeddings" / "anna-k7.safetensors")

    ids = pipeline.tokenizer.convert_tokens_to_ids(["anna-k7", "anna-k7_1"])
    rows = pipeline.text_encoder.get_input_embeddings().weight[ids].detach()
    wanted = contribution["embed.text_encoder.0"]
    exact = torch.from_numpy(dequantise(wanted))
    torch.testing.assert_close(rows, exact, rtol=0, atol=0)
