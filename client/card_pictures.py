"""Sample pictures for a release's card: one a concept, drawn from the merged model itself.

Law: what is drawn follows from the release alone, its own pipeline, the prompt that its card shows
and seed 0; no image of a data set is anywhere near. A file holds pixels and nothing else
(core/sample_picture.py). On one machine's CPU two runs give one file; on another machine they need
not. Cost: one picture of the model's own size a concept.
"""

import io
import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.canonical import decode
from ..core.card_use import shown_prompt
from ..core.errors import InputError, OrthoFedError
from ..core.names import slug
from ..core.sample_picture import MOST_SIDE, check_picture
from ..core.spec import PROMPT
from .drawing import Drawing
from .opened import opened
from .placement import Machine, Placement

if TYPE_CHECKING:
    from PIL import Image


def draw_pictures(
    folder: Path,
    out: Path,
    chosen: Collection[str] = (),
    *,
    drawing: Drawing | None = None,
    device: str = "auto",
) -> list[str]:
    """Draw concepts of the release in ``folder`` into ``out``/<concept>.png; return their names.

    ``chosen``: these alone; none for each. Raises InputError: no release there, no whole model in
    it, a concept that it does not have, or no such device.
    """
    prompt, held = _shown(folder)
    concepts = [each for each in held if not chosen or each[0] in chosen]
    if unknown := set(chosen) - {name for name, _ in concepts}:
        raise InputError(
            f"no concept {min(unknown)[:80]!r} in {folder}",
            why="a picture is drawn of what the release holds",
            fix="take names from its card.md",
            code="unknown-concept",
        )
    placement = Placement.of(device, "fp32", Machine.here())
    out.mkdir(parents=True, exist_ok=True)
    with opened(folder, placement) as model:
        for concept, trigger in concepts:
            image = model.draw(shown_prompt(prompt, trigger), drawing or Drawing(), [0])[0]
            (out / f"{concept}.png").write_bytes(picture_bytes(image))
    return [concept for concept, _ in concepts]


def picture_bytes(image: "Image.Image") -> bytes:
    """Return ``image`` as a release holds it: small enough, its pixels and nothing else."""
    from PIL import Image  # noqa: PLC0415  # slow

    small = image.convert("RGB")
    small.thumbnail((MOST_SIDE, MOST_SIDE))
    bare = Image.frombytes("RGB", small.size, small.tobytes())  # T27: without what came with it
    data = io.BytesIO()
    bare.save(data, "PNG", optimize=True)
    check_picture(data.getvalue())
    return data.getvalue()


def _shown(folder: Path) -> tuple[str, list[tuple[str, str]]]:
    """Return the prompt of info.json, and each concept with its first trigger.

    Names are slugs, so files stay in (T10).
    """
    try:
        said: Any = decode((folder / "info.json").read_bytes())
        concepts = [
            (slug(each["concept"]), slug(each["triggers"][0]["trigger"]))
            for each in said["concepts"]
        ]
    except (OSError, OrthoFedError, LookupError, TypeError, json.JSONDecodeError) as error:
        raise InputError(
            f"{folder} is no release: its info.json names no concepts",
            why="a picture is drawn for each of them",
            fix="give the folder that orthofed pull made",
            code="not-a-release",
        ) from error
    return str(said.get("prompt", PROMPT)), concepts
