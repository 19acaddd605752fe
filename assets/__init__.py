"""The base model and the concepts that ship, and the programs that made them.

`pocket-base/` is a diffusers pipeline of 64 x 64 drawings, `pocket-concepts/` twelve drawn people
that the base has never seen. Their folder names hold a hyphen so that nobody imports them. The
builders are run by hand (`build_base.py`, `build_concepts.py`); importing this package loads
nothing else.
"""

from pathlib import Path


def pocket_base() -> Path:
    """Return the folder of the base pipeline, for `DiffusionPipeline.from_pretrained`."""
    return Path(__file__).parent / "pocket-base"


def public_prompts() -> Path:
    """Return the file of public prompts, a line each, on which a base is measured."""
    return Path(__file__).parent / "public-prompts.txt"


def pocket_concepts() -> Path:
    """Return the folder that holds one folder of images and captions a concept."""
    return Path(__file__).parent / "pocket-concepts"
