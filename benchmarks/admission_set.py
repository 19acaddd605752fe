"""The honest contributions that benchmarks/admission.py judges: trained once, kept as blobs.

    python benchmarks/admission_set.py --sets 2        # 12 concepts a set, a minute each

A set is one federation: its own spec seed, the shipped base, the twelve shipped concepts in slots 0
to 11 with the trainer's defaults. A blob is what a client would send, byte for byte.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import torch

from orthofed.client.base import Base, fingerprint_of
from orthofed.client.dataset import ConceptImages
from orthofed.client.packing import packed, vectors_of
from orthofed.client.training import train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.coordinator.base import BaseFolder
from orthofed.core.layout import ContributionLayout, pack
from orthofed.core.spec import BaseModel, FederationSpec, plan_spec

ASSETS = Path(__file__).parent.parent / "assets"
NOUN = "person"


def spec_of(base: Path, number: int, rank: int) -> FederationSpec:
    """Return the spec of federation ``number``: the same base, another basis."""
    folder = BaseFolder(base)
    return plan_spec(
        name="bench",
        base=BaseModel("other", "bench", "1", fingerprint_of(base), "CC0-1.0"),
        layers=folder.layers(),
        encoders=folder.encoders(),
        seed=bytes([number] * 32),
        rank=rank,
        reserved=folder.vocabulary(),
    )


def blob_of(
    base: Base,
    spec: FederationSpec,
    folder: Path,
    slot: int,
    settings: TrainingSettings,
    work: Path,
    *,
    name: str = "",
    noun: str = NOUN,
) -> bytes:
    """Return the blob of one concept in one slot, trained now or read back.

    The trigger is the folder's name, or ``name``.
    """
    images = ConceptImages.load(folder, size=base.image_size, noun=noun)
    parts = [spec.id, slot, images.digest, settings.as_dict()]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    place = work / f"{folder.name}-{digest[:24]}.blob"
    if not place.is_file():
        triggers = [Trigger(name or folder.name)]
        trained = train(base, spec, slot, triggers, noun, images, settings)
        blob = pack(ContributionLayout(spec, vectors_of(triggers)), packed(trained, spec))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(blob)
        loss = sum(trained.losses[-20:]) / 20
        print(f"{place.name} slot {slot} loss {loss:.4f} {trained.seconds:.0f} s", file=sys.stderr)
    return place.read_bytes()


def the_set(
    base: Base, number: int, *, concepts: Path, rank: int, work: Path, steps: int
) -> tuple[FederationSpec, dict[str, bytes]]:
    """Return one federation's spec and the blobs of its concepts, slot by slot."""
    spec = spec_of(base.folder, number, rank)
    folders = sorted(path for path in concepts.iterdir() if path.is_dir())
    blobs = {}
    for slot, folder in enumerate(folders[: spec.capacity]):
        settings = TrainingSettings(threads=1, seed=number * 1000 + slot, steps=steps)
        blobs[folder.name] = blob_of(base, spec, folder, slot, settings, work)
    return spec, blobs


def main() -> None:
    parser = argparse.ArgumentParser(description="train the contributions that are judged")
    parser.add_argument("--base", type=Path, default=ASSETS / "pocket-base")
    parser.add_argument("--concepts", type=Path, default=ASSETS / "pocket-concepts")
    parser.add_argument("--work", type=Path, default=Path("build/admission"))
    parser.add_argument("--sets", type=int, default=2)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = Base.load(options.base)
    for number in range(options.sets):
        the_set(
            base,
            number,
            concepts=options.concepts,
            rank=options.rank,
            work=options.work,
            steps=options.steps,
        )


if __name__ == "__main__":
    main()
