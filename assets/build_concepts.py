"""Draw the twelve concepts: sixteen images each, with captions of what varies.

`python assets/build_concepts.py [--work DIR]` writes pocket-concepts/. Images 00 to 11 are for
training, 12 to 15 are held out. A caption holds `{}` where the trigger, or the class noun, goes.
Deterministic.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Final

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "assets"

import numpy as np

from . import avatars, pictures, pocket_concepts
from .concepts import CONCEPTS, Concept

NUM_IMAGES: Final = 16
NUM_HELD_OUT: Final = 4
SEED: Final = 2026
FACES: Final = (
    "smile", "smileBig", "smileLOL", "serious", "angryWithFang", "concernedFear", "awe", "blank",
    "driven", "explaining", "hectic", "solemn", "tired", "calm", "eyesClosed", "lovingGrin1",
)  # fmt: skip


def poses(concept: Concept, rng: np.random.Generator) -> list[tuple[dict[str, object], str]]:
    """Return dicebear's options and a caption for every image of a concept; no look comes twice."""
    faces = [FACES[i] for i in rng.permutation(len(FACES))]
    done: list[tuple[dict[str, object], str]] = []
    for i in range(NUM_IMAGES):
        clothes = list(avatars.PEEPS_CLOTHES)[int(rng.integers(len(avatars.PEEPS_CLOTHES)))]
        ground = list(avatars.BACKGROUNDS)[int(rng.integers(len(avatars.BACKGROUNDS)))]
        accessory = avatars.draw(rng, avatars.PEEPS_ACCESSORY) if i % 5 in {1, 3} else ""
        phrases = [
            avatars.PEEPS_FACE[faces[i]][0],
            avatars.PEEPS_ACCESSORY.get(accessory, ""),
            f"{avatars.PEEPS_CLOTHES[clothes]} shirt",
            f"{avatars.BACKGROUNDS[ground]} background",
        ]
        options = avatars.peep_options(
            concept.head, concept.skin, concept.hair, faces[i], clothes, ground, accessory,
            concept.beard,
        )  # fmt: skip
        text = ", ".join(["a peeps drawing of a {}", *(p for p in phrases if p)])
        done.append((options | avatars.jitter(rng), text))
    return done


def record(concept: Concept, number: int) -> dict[str, object]:
    """Return what concepts.json says of one concept."""
    return {
        "name": concept.name, "class_noun": "person", "style": "openPeeps", "licence": "CC0-1.0",
        "head": concept.head, "skin": concept.skin, "hair": concept.hair, "beard": concept.beard,
        "identity": list(concept.identity), "seed": [SEED, 5, number],
        "held_out": [f"{i:02d}" for i in range(NUM_IMAGES - NUM_HELD_OUT, NUM_IMAGES)],
    }  # fmt: skip


def build(work: Path, folder: Path) -> None:
    """Write every concept's folder and concepts.json."""
    for number, concept in enumerate(CONCEPTS):
        drawn = poses(concept, np.random.default_rng([SEED, 5, number]))
        people = [avatars.Avatar("openPeeps", options, text) for options, text in drawn]
        pictures.lay_out(work, folder / concept.name, people)
    about = [record(concept, number) for number, concept in enumerate(CONCEPTS)]
    (folder / "concepts.json").write_text(json.dumps(about, indent=1) + "\n")


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / ".build")
    build(parser.parse_args().work, pocket_concepts())


if __name__ == "__main__":
    main()
