"""The file that lies beside an image and says something of it: its caption, its mask.

Law: the ending counts in any case, as an image's own does. Cameras and Windows write `.TXT` and
`.PNG`, and a file that is passed over would change what is trained on without a word.
"""

from pathlib import Path


def sidecar(image: Path, ending: str) -> Path | None:
    """Return the file of the image's name with ``ending``, itself in lower case, or None.

    Where several differ in case alone, the one in lower case, then the first by name.
    """
    exact = image.with_name(image.stem + ending)
    if exact.is_file():
        return exact
    names = sorted(
        path.name
        for path in image.parent.iterdir()
        if path.name.startswith(image.stem) and path.name[len(image.stem) :].lower() == ending
    )
    found = (image.with_name(name) for name in names)
    return next((path for path in found if path.is_file()), None)
