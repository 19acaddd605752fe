# pyright: basic, reportPrivateImportUsage=false
# peft publishes partial types.
"""What an adapted convolution costs: ours, PEFT's LoRA, and the base's alone.

    python benchmarks/convolution_forms.py

Claim: ConvolutionProduct (client/convolution_product.py) costs less than PEFT's LoRA of the same
rank. One JSON object a line: the pixels' shape, outputs, kernel, rank, and the process time of a
forward and backward pass, PEFT's being 1. The input needs its gradient, as inside a network. The
three take turns; medians; one thread, float32.
"""

import copy
import json
import statistics
import time

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from orthofed.client.frozen_group import attached
from orthofed.client.frozen_linear import FrozenLinear

TURNS = 7
# channels, out, side, kernel, stride, rank: SD1.5 at 512 px.
FORMS = [
    (320, 320, 64, 3, 1, 20),
    (640, 640, 32, 3, 1, 20),
    (1280, 1280, 16, 3, 1, 20),
    (2560, 1280, 8, 3, 1, 20),
    (320, 320, 64, 3, 2, 20),
    (320, 320, 64, 1, 1, 20),
]


def main() -> None:
    torch.set_num_threads(1)
    for form in FORMS:
        print(json.dumps(_measured(*form)), flush=True)


def _measured(channels: int, out: int, side: int, kernel: int, stride: int, rank: int) -> object:
    x = torch.randn(1, channels, side, side)
    base = nn.Conv2d(channels, out, kernel, stride, kernel // 2).requires_grad_(requires_grad=False)
    theirs = nn.ModuleDict({"conv": copy.deepcopy(base)})
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["conv"])
    inject_adapter_in_model(config, theirs)
    ours, width = copy.deepcopy(base), base.weight[0].numel()
    layer = FrozenLinear(
        nn.Parameter(torch.randn(out, rank) * 0.01),
        torch.randint(0, 2, (width, rank), dtype=torch.int8) * 2 - 1,
        width**-0.5,
    )
    ways = {"peft_lora": theirs["conv"], "orthofed": ours, "base_alone": base}
    back = torch.randn_like(base(x))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with attached({"conv": (ours, layer)}, lambda_=1.0):
        for _ in range(TURNS + 1):
            for name, way in ways.items():
                seconds[name].append(_seconds(way, x, back))
    step_s = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    return {
        "x": list(x.shape),
        "out": out,
        "kernel": kernel,
        "stride": stride,
        "rank": rank,
        "peft_ms": round(step_s["peft_lora"] * 1e3, 1),
        **{n: round(step_s[n] / step_s["peft_lora"], 3) for n in ("orthofed", "base_alone")},
    }


def _seconds(way: nn.Module, x: Tensor, back: Tensor) -> float:
    started_s = time.process_time()
    way(x.detach().requires_grad_()).backward(back)
    return time.process_time() - started_s


if __name__ == "__main__":
    main()
