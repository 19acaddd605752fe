# pyright: basic, reportPrivateImportUsage=false
# diffusers and peft publish partial types.
"""What a training step costs with a frozen B, beside PEFT's LoRA on the same model.

    python benchmarks/train_step.py --json                       # pocket base and SD1.5 at 512
    python benchmarks/train_step.py --json --shapes sd15-512 --steps 3 --threads 1

Aim: time and saved activations at most .95 of PEFT LoRA's, trainable numbers at most .55; what
came out is in docs/log.md. Three contestants take turns step by step, on one
UNet's weights, with one batch, rank and optimiser:

    orthofed        client/frozen_group.py, A from zero
    peft_lora       unet.add_adapter(LoraConfig(...)), as diffusers trains it
    peft_a_frozen   the same, with lora_A = our B^T and frozen: the same mathematics, so the losses
                    must agree (`loss_difference`)

The text is constant, as in diffusers' LoRA script. SD shapes have random weights. Times are the
median step's: process time on a CPU (other processes take wall time, not this), wall time on a GPU,
where steps/s and peak memory are recorded as well. Saved bytes are what saved_tensors_hooks sees in
one forward pass, each storage once, without parameters, buffers and B. A ratio is orthofed's share
of peft_lora's.
"""

import argparse
import contextlib
import copy
import datetime as dt
import json
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from torch import Tensor, nn

from orthofed.client.frozen_group import attached
from orthofed.client.frozen_linear import FrozenLinear
from orthofed.core.basis import integer_block, scale

TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]
POCKET = Path(__file__).parent.parent / "assets" / "pocket-base" / "unet"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SD15 = {"cross_attention_dim": 768, "attention_head_dim": 8}
SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
TINY = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 48,
    "attention_head_dim": 4,
}


@dataclass(frozen=True, slots=True)
class Shape:
    """One model and batch. ``config`` None is the pocket base, with its trained weights."""

    side: int  # of the latents, in positions
    config: dict[str, Any] | None
    batch: int = 1
    rank: int = 20
    tokens: int = 77


SHAPES = {
    "tiny": Shape(16, TINY, batch=2, rank=4),
    "pocket": Shape(8, None, batch=12, rank=8),  # the trainer's 8 images and 4 public states
    "sd15-512": Shape(64, SD15),
    "sd15-1024": Shape(128, SD15),
    "sdxl-512": Shape(64, SDXL),
    "sdxl-1024": Shape(128, SDXL),
}
BY_DEVICE = {
    "cpu": ["pocket", "sd15-512"],
    "cuda": ["pocket", "sd15-512", "sd15-1024", "sdxl-512", "sdxl-1024"],
}


@dataclass(slots=True)
class Contestant:
    """One way to train the same model, and what its steps showed."""

    unet: UNet2DConditionModel
    parameters: list[nn.Parameter]
    constants: Sequence[Tensor]  # its B, which is no activation
    optimiser: torch.optim.Optimizer = field(init=False)
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def __post_init__(self) -> None:
        self.optimiser = torch.optim.AdamW(self.parameters, lr=1e-4, fused=True)

    @property
    def trainable(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters)

    @property
    def optimizer_bytes(self) -> int:
        """Bytes of all that the optimiser keeps; call it after a step."""
        states = self.optimiser.state.values()
        return sum(v.nbytes for state in states for v in state.values() if torch.is_tensor(v))


def main() -> None:
    options = _options()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(mode=options.device == "cpu")
    results = []
    for name in options.shapes or BY_DEVICE[options.device]:
        results.append(measured(name, options))
        if not options.json:
            print(json.dumps(results[-1]), flush=True)
    if options.json:
        print(json.dumps({**_circumstances(options), "results": results}, indent=2))


def measured(name: str, options: argparse.Namespace) -> dict[str, object]:
    """Return the figures of one shape."""
    shape, dtype = SHAPES[name], DTYPES[options.dtype]
    base = _unet(shape).to(options.device, dtype).requires_grad_(requires_grad=False)
    loss_of = _task(base, shape, options.device, dtype)
    with contextlib.ExitStack() as stack:
        frozen = _frozen_layers(base, shape.rank)
        contestants = {
            "orthofed": _orthofed(base, frozen, stack),
            "peft_lora": _peft(base, shape.rank, {}),
            "peft_a_frozen": _peft(base, shape.rank, frozen),
        }
        saved = {key: _saved_bytes(one, loss_of) for key, one in contestants.items()}
        for number in range(options.steps + 1):
            for key, one in contestants.items():
                _step(one, loss_of, options.device, warming=number == 0)
                print(f"{name} step {number} {key} {one.losses[-1]:.6f}", file=sys.stderr)
    return _figures(name, shape, contestants, saved, options)


def _figures(
    name: str,
    shape: Shape,
    contestants: dict[str, Contestant],
    saved: dict[str, int],
    options: argparse.Namespace,
) -> dict[str, object]:
    step_s = {key: statistics.median(one.seconds) for key, one in contestants.items()}
    trainable = {key: one.trainable for key, one in contestants.items()}
    optimizer_bytes = {key: one.optimizer_bytes for key, one in contestants.items()}
    ours, same = contestants["orthofed"].losses, contestants["peft_a_frozen"].losses
    result: dict[str, object] = {
        "shape": name,
        "weights": "random" if shape.config else "pocket-base",
        "latent_side": shape.side,
        "batch": shape.batch,
        "rank": shape.rank,
        "steps": options.steps,
        "time_ratio": _ratio(step_s),
        "time_ratio_range": _range(contestants),
        "time_ratio_to_a_frozen": round(step_s["orthofed"] / step_s["peft_a_frozen"], 3),
        "saved_activation_ratio": _ratio(saved),
        "trainable_ratio": _ratio(trainable),
        "optimizer_bytes_ratio": _ratio(optimizer_bytes),
        "loss_difference": max(abs(a / b - 1) for a, b in zip(ours, same, strict=True)),
        "step_s": {key: round(value, 5) for key, value in step_s.items()},
        "saved_activation_bytes": saved,
        "trainable": trainable,
        "optimizer_bytes": optimizer_bytes,
    }
    if options.device == "cuda":
        result["steps_a_second"] = {key: round(1 / value, 3) for key, value in step_s.items()}
        result["peak_bytes"] = {key: one.peak_bytes for key, one in contestants.items()}
    return result


def _ratio(values: dict[str, float] | dict[str, int]) -> float:
    return round(values["orthofed"] / values["peft_lora"], 4)


def _range(contestants: dict[str, Contestant]) -> list[float]:
    """Return the lowest and highest ratio of one turn: how far the machine's noise reaches."""
    ours, theirs = contestants["orthofed"].seconds, contestants["peft_lora"].seconds
    turns = [a / b for a, b in zip(ours, theirs, strict=True)]
    return [round(min(turns), 3), round(max(turns), 3)]


def _orthofed(
    base: UNet2DConditionModel, frozen: dict[str, FrozenLinear], stack: contextlib.ExitStack
) -> Contestant:
    unet = _with_shared_weights(base)
    members = {
        f"unet.{name}": (cast("nn.Linear", unet.get_submodule(name)), layer)
        for name, layer in frozen.items()
    }
    stack.enter_context(attached(members, lambda_=1.0))
    return Contestant(unet, [x.a for x in frozen.values()], [x.b for x in frozen.values()])


def _peft(base: UNet2DConditionModel, rank: int, frozen: dict[str, FrozenLinear]) -> Contestant:
    """Return PEFT's LoRA; a layer in ``frozen`` has its B^T there, frozen, as `lora_A`."""
    unet = _with_shared_weights(base)
    unet.add_adapter(
        LoraConfig(
            r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(TARGETS)
        )
    )
    cast_training_params(unet, dtype=torch.float32)
    for name, layer in frozen.items():
        down = cast("Any", unet.get_submodule(name)).lora_A["default"].weight
        down.data.copy_(layer.b.t() * layer.scale)
        down.requires_grad_(requires_grad=False)
    downs = [p for name, p in unet.named_parameters() if "lora_A" in name and not p.requires_grad]
    return Contestant(unet, [p for p in unet.parameters() if p.requires_grad], downs)


def _frozen_layers(unet: UNet2DConditionModel, rank: int) -> dict[str, FrozenLinear]:
    """Return slot 0 of every target, B as core/basis.py derives it from a seed of zeros."""
    layers = {}
    for name, module in unet.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(tuple(TARGETS)):
            path, width, device = f"unet.{name}", module.in_features, module.weight.device
            block = integer_block(
                "hadamard", seed=bytes(32), layer=path, width=width, rank=rank, slot=0
            )
            layers[name] = FrozenLinear(
                nn.Parameter(torch.zeros(module.out_features, rank, device=device)),
                torch.from_numpy(np.ascontiguousarray(block)).to(device),
                scale("hadamard", width),
            )
    return layers


def _with_shared_weights(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Return a second UNet on the same weights: what one way adds, the others do not see."""
    return copy.deepcopy(unet, {id(parameter): parameter for parameter in unet.parameters()})


def _unet(shape: Shape) -> UNet2DConditionModel:
    if shape.config is None:
        return cast("UNet2DConditionModel", UNet2DConditionModel.from_pretrained(POCKET)).train()
    torch.manual_seed(0)
    return UNet2DConditionModel(sample_size=shape.side, **shape.config).train()


def _task(
    unet: UNet2DConditionModel, shape: Shape, device: str, dtype: torch.dtype
) -> Callable[[UNet2DConditionModel], Tensor]:
    """Return what gives a UNet's loss on one fixed batch."""
    random = torch.Generator().manual_seed(1)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=random).to(device, dtype)

    config = cast("Any", unet.config)
    batch, side = shape.batch, shape.side
    noisy = draw(batch, config.in_channels, side, side)
    target = draw(batch, config.out_channels, side, side)
    text = draw(batch, shape.tokens, config.cross_attention_dim)
    times = torch.arange(batch, device=device) * 37 + 200
    added = None
    if config.addition_embed_type == "text_time":
        added = {"text_embeds": draw(batch, 1280), "time_ids": draw(batch, 6)}
    autocast = torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32)

    def loss_of(one: UNet2DConditionModel) -> Tensor:
        with autocast:
            answer = one(noisy, times, text, added_cond_kwargs=added, return_dict=False)[0]
        return nn.functional.mse_loss(answer.float(), target.float())

    return loss_of


def _step(
    one: Contestant,
    loss_of: Callable[[UNet2DConditionModel], Tensor],
    device: str,
    *,
    warming: bool,
) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    clock = time.process_time if device == "cpu" else time.perf_counter
    started_s = clock()
    one.optimiser.zero_grad(set_to_none=True)
    loss = loss_of(one.unet)
    loss.backward()
    one.optimiser.step()
    if device == "cuda":
        torch.cuda.synchronize()
        one.peak_bytes = max(one.peak_bytes, torch.cuda.max_memory_allocated())
    if not warming:
        one.seconds.append(clock() - started_s)
    one.losses.append(loss.item())
    one.optimiser.zero_grad(set_to_none=True)  # its gradients are no part of the others' peak


def _saved_bytes(one: Contestant, loss_of: Callable[[UNet2DConditionModel], Tensor]) -> int:
    """Return the bytes kept for the way back, each storage once, parameters and B left out."""
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)  # alive until counted, so that no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of(one.unet)
    fixed = {_address(tensor) for tensor in _fixed(one)}
    sizes = {_address(t): t.untyped_storage().nbytes() for t in kept}
    total = sum(size for address, size in sizes.items() if address not in fixed)
    assert math.isfinite(loss.item())
    return total


def _fixed(one: Contestant) -> Iterator[Tensor]:
    yield from one.unet.parameters()
    yield from one.unet.buffers()
    yield from one.parameters
    yield from one.constants


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _circumstances(options: argparse.Namespace) -> dict[str, object]:
    return {
        "schema": "orthofed.train-step/1",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/train_step.py", *sys.argv[1:]]),
        "commit": _commit(),
        "hardware": _hardware(options.device),
        "device": options.device,
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "diffusers", "peft")},
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    folder = Path(__file__).parent
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _hardware(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _options() -> argparse.Namespace:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description="a training step beside PEFT's")
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), help="default: by device")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each, after one more")
    parser.add_argument("--device", choices=["cpu", "cuda"], default=device)
    parser.add_argument(
        "--dtype", choices=list(DTYPES), default="float32" if device == "cpu" else "bfloat16"
    )
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    parser.add_argument("--json", action="store_true", help="one JSON object, with the hardware")
    return parser.parse_args()


if __name__ == "__main__":
    main()
