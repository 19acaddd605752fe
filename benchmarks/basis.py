# pyright: basic, reportPrivateImportUsage=false
# torch publishes partial types.
"""What the frozen blocks cost, beside the QR that an orthogonal matrix of the same width takes.

    python benchmarks/basis.py --json

Aim: at width 1280 a block in at most a hundredth of the time of ``torch.linalg.qr`` (`qr_ratio` >=
100), and no allocation of width x width (`peak_bytes` under `square_bytes`, one byte an entry).
What came out is in docs/log.md.

`slot_s` is one slot's block, rank 20, in every attention layer of UNet and text encoders, each from
its own stream: a fresh seed a turn, so that nothing comes from a cache. `block_ms` is one layer's.
`qr_ms` is Q and R of one Gaussian matrix in float32; drawing it does not count. Process time on one
thread, so that other processes on the machine take nothing from either; medians of turns. Peaks are
those of tracemalloc, which numpy reports to, outside the timed turns.
"""

import argparse
import datetime as dt
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

import published_bases
import torch
from circumstances import commit, hardware

from orthofed.core.basis import integer_block
from orthofed.core.layer import Layer

RANK = 20


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    results = [_model(name, options) for name in options.models]
    print(json.dumps({**_circumstances(), "results": results}, indent=2 if options.json else None))


def _model(name: str, options: argparse.Namespace) -> dict[str, Any]:
    layers = published_bases.attention(name)
    rank = min(RANK, *(layer.width for layer in layers))
    turns = range(options.rounds)
    return {
        "model": name,
        "layers": len(layers),
        "rank": rank,
        "rounds": options.rounds,
        "slot_s": statistics.median(_seconds(lambda t=t: _blocks(layers, rank, t)) for t in turns),
        "widths": [
            _width(next(layer for layer in layers if layer.width == width), rank, options.rounds)
            for width in sorted({layer.width for layer in layers})
        ],
    }


def _width(layer: Layer, rank: int, rounds: int) -> dict[str, Any]:
    blocks, squares = list[float](), list[float]()
    for turn in range(rounds):
        matrix = torch.randn(layer.width, layer.width)
        squares.append(_seconds(lambda matrix=matrix: torch.linalg.qr(matrix)))
        blocks.append(_seconds(lambda turn=turn: _blocks([layer], rank, rounds + turn)))
    ratio = statistics.median(a / b for a, b in zip(squares, blocks, strict=True))
    return {
        "width": layer.width,
        "block_ms": round(statistics.median(blocks) * 1e3, 4),
        "qr_ms": round(statistics.median(squares) * 1e3, 3),
        "qr_ratio": round(ratio, 1),
        "peak_bytes": _peak(lambda: _blocks([layer], rank, 2 * rounds)),
        "square_bytes": layer.width**2,
    }


def _blocks(layers: Iterable[Layer], rank: int, turn: int) -> None:
    """Derive slot 0 of every layer, from this turn's seed."""
    seed = turn.to_bytes(32, "little")
    for layer in layers:
        integer_block("hadamard", seed=seed, layer=layer.path, width=layer.width, rank=rank, slot=0)


def _seconds(work: Callable[[], object]) -> float:
    started_s = time.process_time()
    work()
    return time.process_time() - started_s


def _peak(work: Callable[[], object]) -> int:
    """Return the most bytes that were allocated at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _circumstances() -> dict[str, object]:
    return {
        "schema": "orthofed.basis/1",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/basis.py", *sys.argv[1:]]),
        "commit": commit(),
        "hardware": hardware(),
        "threads": 1,
        "versions": {name: version(name) for name in ("numpy", "torch")},
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="the frozen blocks beside a QR")
    models = list(published_bases.PUBLISHED)
    parser.add_argument("--models", nargs="+", choices=models, default=["sd15", "sdxl"])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", action="store_true", help="indented, for a results file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
