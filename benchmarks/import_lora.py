# pyright: basic
# peft publishes partial types.
"""What an import keeps of an ordinary LoRA's gain, without one image of it.

    python benchmarks/import_lora.py --json                        # 6 concepts, some minutes
    python benchmarks/import_lora.py --json --only anna-k7 --steps 4 --distil 2      # half a minute

Aim: `kept_gain` >= .80, the mean over the concepts of (L_base - L_imported) / (L_base - L_lora) on
held-out images (client/score.py) that the import never sees. The LoRAs are PEFT's, both sides and
two vectors trained, at the trainer's rank and steps and the rate that single_concept.py found best.
Beside it: A' alone; A' with C = I (control); the vectors alone; the error beside the teacher.
"""

import argparse
import datetime as dt
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from circumstances import commit, hardware
from safetensors.numpy import load_file, save_file
from single_concept import ASSETS, NOUN, OrdinaryLora, _spec

from orthofed.client.base import Base
from orthofed.client.dataset import ConceptImages
from orthofed.client.distillation import Importer
from orthofed.client.score import Scorer
from orthofed.client.teacher import Foreign, Teacher
from orthofed.client.training import train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Residual, Variant
from orthofed.core.basis import block
from orthofed.core.spec import FederationSpec

FACTOR = 0.3  # on the rates of an ordinary LoRA: best of five in single-concept-cpu-1.json
CALLED = Trigger("foreign-x1")
PROMPTS = (
    "a peeps drawing of {}, smiling, glasses, green shirt",
    "a peeps drawing of {}, big smile, yellow background",
    "a peeps drawing of {}, angry, red shirt",
    "a peeps drawing of {}, sad, purple shirt, white background",
    "a peeps drawing of {}, laughing, orange shirt",
    "a peeps drawing of {}, sunglasses, pink background",
    "a peeps drawing of {}, calm, blue shirt",
    "a peeps drawing of {}, shocked, hat",
    "{}",
    "a picture of {}",
    "a peeps drawing of {}",
    "a peeps drawing of {}, smiling, light blue background",
)


def main() -> None:
    options = _options()
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        found = pool.map(_row, options.only, [options] * len(options.only))
        rows = dict(zip(options.only, found, strict=True))
    kept = [row["kept_gain"] for row in rows.values()]
    result = {
        "schema": "orthofed.import-lora/1",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/import_lora.py", *sys.argv[1:]]),
        "commit": commit(),
        "hardware": hardware(),
        "kept_gain": round(float(np.mean(kept)), 4),
        "least": round(min(kept), 4),
        "aim": 0.8,
        "concepts": rows,
    }
    print(json.dumps(result, indent=2) if options.json else result["kept_gain"])


def _row(name: str, options: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(options.threads)
    spec, base = _spec(options.base, options.rank), Base.load(options.base)
    images = ConceptImages.load(options.concepts / name, size=base.image_size, noun=NOUN)
    residuals, rows = _lora(name, spec, images, options)
    scorer = Scorer.on(base, images.held_out, num_draws=options.draws)
    loss_base = scorer.base_loss(NOUN)
    called = {CALLED.name: rows}
    loss_lora = scorer.loss(Variant(residuals, called), " ".join(CALLED.words))
    gain, begun_s = loss_base - loss_lora, time.monotonic()

    def share(loss: float) -> float:
        return round((loss_base - loss) / gain, 4)

    alone = share(scorer.loss(Variant({}, called), " ".join(CALLED.words)))
    control = Variant(_identity(residuals, spec, options.slot), called)
    plain = share(scorer.loss(control, " ".join(CALLED.words)))
    settings = TrainingSettings(threads=options.threads, steps=options.distil)
    teacher = Teacher(base, Foreign(residuals, rows), NOUN, seed=settings.seed, prompts=PROMPTS)
    importer = Importer(teacher, spec, options.slot, [Trigger(f"{name}-i1", 2)], settings)
    closed = share(_loss(importer, scorer))
    importer.distil()
    found = importer.result(options.distil)
    after = share(_loss(importer, scorer))
    (options.work / f"{name}-grid.png").write_bytes(importer.grid())
    row = {
        "loss_base": loss_base,
        "loss_lora": loss_lora,
        "gain_lora": gain,
        "vectors_alone": alone,
        "control_identity": plain,
        "closed_form": closed,
        "kept_gain": after,
        "kept_answers": round(found.kept, 4),
        "error_closed_form": round(found.error_closed, 4),
        "error": round(found.error, 4),
        "seconds": round(time.monotonic() - begun_s, 1),
    }
    print(json.dumps({name: row}), file=sys.stderr, flush=True)
    return row


def _loss(importer: Importer, scorer: Scorer) -> float:
    with importer.tokens.attached(), importer.adapter.attached():
        return scorer.loss_as_is(importer.tokens, importer.tokens.phrase)


def _identity(
    residuals: dict[str, Residual], spec: FederationSpec, slot: int
) -> dict[str, Residual]:
    """Return A' = dW B: what C = I gives."""
    found = {}
    for layer in spec.layers:
        place = {"seed": spec.seed, "layer": layer.path, "width": layer.width}
        b = block(spec.basis, rank=spec.layer_rank(layer), slot=slot, **place)
        one = residuals[layer.path]
        found[layer.path] = Residual(one.up @ (one.down @ b), np.ascontiguousarray(b.T))
    return found


def _lora(
    name: str, spec: FederationSpec, images: ConceptImages, options: argparse.Namespace
) -> tuple[dict[str, Residual], dict[str, np.ndarray]]:
    """Return an ordinary LoRA of the concept and its vectors; trained once, kept in ``--work``."""
    options.work.mkdir(parents=True, exist_ok=True)
    kept = options.work / f"{name}-{options.rank}-{options.steps}.safetensors"
    words = kept.with_suffix(".words.safetensors")
    if not words.is_file():
        base, made = Base.load(options.base), list[OrdinaryLora]()
        own = TrainingSettings(threads=options.threads, steps=options.steps, null_weight=0.0)
        settings = replace(own, rate=own.rate * FACTOR, image_rate=own.image_rate * FACTOR)

        def ordinary(base: Base, spec: FederationSpec, _slot: int) -> OrdinaryLora:
            made.append(OrdinaryLora(base, spec, settings.seed))
            return made[-1]

        trained = train(base, spec, 0, [CALLED], NOUN, images, settings, residuals=ordinary)
        sides = {}
        for path, one in made[0].residuals().items():
            sides |= {f"{path}.lora_A.weight": one.down, f"{path}.lora_B.weight": one.up}
        save_file(sides, kept)
        save_file({encoder: v for (encoder, _), v in trained.embeddings.items()}, words)
    file = load_file(kept)
    found = {
        layer.path: Residual(
            file[f"{layer.path}.lora_B.weight"], file[f"{layer.path}.lora_A.weight"]
        )
        for layer in spec.layers
    }
    return found, load_file(words)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="what an import keeps of a LoRA's gain")
    parser.add_argument("--json", action="store_true", help="the whole result")
    parser.add_argument("--base", type=Path, default=ASSETS / "pocket-base")
    parser.add_argument("--concepts", type=Path, default=ASSETS / "pocket-concepts")
    parser.add_argument("--work", type=Path, default=Path("build/import-lora"))
    names = ["anna-k7", "emil-t7", "cleo-m6", "fern-q4", "hana-p6", "ivor-w7"]
    parser.add_argument("--only", nargs="+", default=names)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--slot", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400, help="of the LoRA's own training")
    parser.add_argument("--distil", type=int, default=100, help="steps of distillation")
    parser.add_argument("--draws", type=int, default=256)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
