# pyright: basic, reportPrivateImportUsage=false
# peft publishes partial types.
"""Which form of an adapted layer is fastest: the residual beside the weight, or folded into it.

    python benchmarks/layer_forms.py

Claim: FrozenProduct folds where that pays (client/frozen_product.py), and in either form beats
PEFT's LoRA. One JSON object a line: tokens, widths, layers that share the input, and the process
time of a forward and backward pass, PEFT's being 1. Forms take turns; medians; one thread, float32.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from orthofed.client import frozen_product
from orthofed.client.frozen_product import FrozenProduct

TURNS = 7
# tokens, in, out, layers, rank: SD1.5 at 512 px, then the pocket base at the trainer's 12 images.
FORMS = [
    (4096, 320, 320, 3, 20),
    (4096, 320, 320, 1, 20),
    (1024, 640, 640, 3, 20),
    (1024, 640, 640, 1, 20),
    (256, 1280, 1280, 3, 20),
    (256, 1280, 1280, 1, 20),
    (77, 768, 320, 2, 20),
    (77, 768, 1280, 2, 20),
    (768, 96, 96, 3, 8),
    (768, 96, 96, 1, 8),
    (192, 128, 128, 3, 8),
    (384, 128, 96, 2, 8),
]


def main() -> None:
    torch.set_num_threads(1)
    for form in FORMS:
        print(json.dumps(_measured(*form)), flush=True)


def _measured(tokens: int, width: int, out: int, layers: int, rank: int) -> dict[str, object]:
    x = torch.randn(1, tokens, width)
    back = [torch.randn(1, tokens, out) for _ in range(layers)]
    linears = [nn.Linear(width, out, bias=False) for _ in range(layers)]
    weights = [linear.weight.detach() for linear in linears]
    b = torch.randint(0, 2, (width, layers * rank), dtype=torch.int8) * 2 - 1
    a = [nn.Parameter(torch.randn(out, rank) * 0.01) for _ in range(layers)]
    peft = nn.ModuleDict({f"to_{k}": linear for k, linear in enumerate(linears)})
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(peft)), peft)

    def ours(rows_a_column: float) -> Callable[[Tensor], Sequence[Tensor]]:
        def answer(given: Tensor) -> Sequence[Tensor]:
            frozen_product.FOLD_ROWS_A_COLUMN = rows_a_column
            return FrozenProduct.apply(given, b, width**-0.5, weights, [None] * layers, *a)

        return answer

    ways = {
        "peft_lora": lambda given: [module(given) for module in peft.values()],
        "beside": ours(float("inf")),
        "folded": ours(0),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    passes = min(300, max(1, int(2e8 / (tokens * width * out * layers))))
    for _ in range(TURNS + 1):
        for name, way in ways.items():
            started_s = time.process_time()
            for _ in range(passes):
                torch.autograd.backward(way(x.detach().requires_grad_()), back)
                for parameter in [*a, *peft.parameters()]:
                    parameter.grad = None
            seconds[name].append((time.process_time() - started_s) / passes)
    step_s = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    return {
        "x": [tokens, width],
        "out": out,
        "layers": layers,
        "peft_ms": round(step_s["peft_lora"] * 1e3, 3),
        **{name: round(step_s[name] / step_s["peft_lora"], 3) for name in ("beside", "folded")},
    }


if __name__ == "__main__":
    main()
