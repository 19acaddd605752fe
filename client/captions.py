"""What is said of one image, with ``{}`` in the concept's place.

A text file of the image's name (sidecar.py) is its caption. In it stands ``{}``, a trigger, or the
class noun, looked for in this order; the first one found becomes ``{}``. A caption with none of
them would teach the model that the concept's looks belong to every other word in it, so it is an
error. An image without a caption gets a template, by default a neutral one as in textual inversion
(arXiv 2208.01618).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..core.errors import InputError
from .sidecar import sidecar

PLACE: Final = "{}"
TEMPLATES: Final = ("a picture of {}", "a portrait of {}", "an image of {}", "{}")


def caption_of(
    image: Path,
    noun: str,
    *,
    triggers: Sequence[str] = (),
    templates: Sequence[str] = TEMPLATES,
    number: int = 0,
) -> str:
    """Return the caption of the file ``image``; ``number`` chooses the template if it has none.

    Raises InputError: the text file is not UTF-8, or names the concept in no way.
    """
    beside = sidecar(image, ".txt")
    if beside is None:
        return templates[number % len(templates)]
    try:
        # With a byte order mark, as some editors write, that is no part of the first word.
        text = " ".join(beside.read_text("utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise InputError(
            f"{beside.name} cannot be used: it is not UTF-8 text ({error.reason})",
            why="it is the caption of an image",
            fix=f"save {beside} as UTF-8, or remove it",
            code="broken-caption",
        ) from error
    if not text:
        return templates[number % len(templates)]
    if PLACE in text:
        return text
    for name in (" ".join(triggers), *triggers, noun):
        found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) if name else None
        if found:
            return text[: found.start()] + PLACE + text[found.end() :]
    said = f"{PLACE}, {' or '.join((*triggers, noun))}"
    raise InputError(
        f"the caption {beside.name} names the concept nowhere: {text[:80]!r}",
        why="what the caption does not name is learnt as part of its other words",
        fix=f"write {said} where the concept stands in {beside}",
        code="caption-without-trigger",
    )
