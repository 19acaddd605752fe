"""How long an audit of a LoRA of real size takes, and what memory.

    python benchmarks/audit.py --model sd15 --json

Aim: SD 1.5 in less than a minute, without an n x m matrix. Twelve random contributions at rank 20
over the model's attention layers are stacked into one F16 file by core's own code; then the file is
taken apart as ``orthofed audit`` does, each slot compared with what was sent. What came out is in
docs/log.md.
"""

import argparse
import datetime as dt
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from circumstances import commit, hardware

from orthofed.client.adapter_file import AdapterFile
from orthofed.client.audit import Audit, Leased
from orthofed.core.contribution import ContributionManifest
from orthofed.core.layout import ContributionLayout, pack
from orthofed.core.lorafile import FileOrigin
from orthofed.core.loras import lora_files
from orthofed.core.merging import Merge, Part
from orthofed.core.published import PublishedModel, published_layers
from orthofed.core.quantise import quantise
from orthofed.core.spec import BaseModel, Encoder, FederationSpec, plan_spec

CONCEPTS = 12
LAMBDA = 614
FAMILIES: dict[PublishedModel, str] = {"sd15": "sd1", "sd21": "other", "sdxl": "sdxl"}


def spec_of(model: PublishedModel) -> FederationSpec:
    """Return a federation on the published shapes."""
    names = ("text_encoder", "text_encoder_2") if model == "sdxl" else ("text_encoder",)
    widths = {"text_encoder": 768, "text_encoder_2": 1280}
    return plan_spec(
        name="bench",
        base=BaseModel(FAMILIES[model], model, "published", "ab" * 32, "CC0-1.0"),
        layers=published_layers(model, "attention"),
        encoders=tuple(Encoder(name, widths[name]) for name in names),
        seed=bytes(range(32)),
        rank=20,
    )


def part_of(spec: FederationSpec, slot: int) -> Part:
    """Return one random contribution, in memory."""
    layout, random = ContributionLayout(spec, (2,)), np.random.default_rng(slot)
    tensors = {}
    for info in layout.content:
        low, high = layout.window(info.name)
        values = random.normal(scale=0.005, size=info.shape).astype(np.float32)
        tensors[info.name] = quantise(values, low=low, high=high)
    blob = pack(layout, tensors)
    manifest = ContributionManifest(
        basis="0" * 64,
        blob="0" * 64,
        bytes=len(blob),
        client="0" * 64,
        concept=f"concept{slot}",
        fed=spec.id,
        fence=1,
        licence="CC0-1.0",
        log="0" * 64,
        slot=slot,
        t=0,
        triggers=(f"word-{slot}",),
    )
    exponents = {name: tensor.exponent for name, tensor in tensors.items()}
    return Part(slot, LAMBDA, manifest, layout, exponents, lambda at, n: blob[at : at + n])


def measure(model: PublishedModel) -> dict[str, object]:
    """Return the figures of one model."""
    spec = spec_of(model)
    merge = Merge.of(spec, [part_of(spec, slot) for slot in range(CONCEPTS)])
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "lora.safetensors"
        made = next(lora_files(merge, FileOrigin(spec, "0" * 64), n=1))
        with path.open("wb") as file:
            file.write(made.header())
            file.writelines(made.data)
        started_s, cpu_s = time.perf_counter(), time.process_time()
        opened = AdapterFile.open(path, spec)
        leased = tuple(
            Leased(
                p.manifest.slot,
                p.leaf,
                p.manifest.concept,
                p.manifest.client,
                LAMBDA,
                ((p.leaf, LAMBDA),),
            )
            for p in merge.parts
        )
        audit = Audit(spec, leased, {p.manifest.slot: p for p in merge.parts})
        for layer in spec.layers:
            audit.add(layer, opened.change(layer))
        found = audit.findings()
        took_s, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
        size = path.stat().st_size
    return {
        "model": model,
        "layers": len(spec.layers),
        "concepts": CONCEPTS,
        "file_mb": round(size / 1e6, 1),
        "clean": found.clean,
        "seconds": round(took_s, 1),
        "processor_seconds": round(cpu_s, 1),
        "outside_share": found.outside.share,
        "worst_error": max(each.error for each in found.slots),
        "largest_floor": max(each.floor for each in found.slots),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "commit": commit(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "hardware": hardware(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=FAMILIES, default="sd15")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    found = measure(options.model)
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<18} {value}")


if __name__ == "__main__":
    main()
