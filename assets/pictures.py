"""Make the training pictures: fetch icon sets and avatar parts with npm, draw them, caption them.

The result is two files, `pictures.npy` (uint8, N x 64 x 64 x 3) and `pictures.json` (captions and
the source of each). The identities of the concepts are kept out of the Open Peeps drawings by
`avatars.peep`, and asserted here. Two minutes on two cores.
"""

# pyright: basic, reportPrivateImportUsage=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false
# pyright: reportOptionalCall=false, reportAttributeAccessIssue=false, reportMissingImports=false
# torch and resvg_py publish partial types or are not installed for checks

# ruff: noqa: S101 -- a failed assert is a bug of the builder, and stops it

import io
import json
import shutil
import subprocess
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import resvg_py
from PIL import Image

from . import avatars, emoji

SIDE: Final = 64
PACKAGES: Final = {
    **{f"@iconify-json/{name}": version for name, version in emoji.SETS.items()},
    "@dicebear/core": "9.4.3",
    "@dicebear/collection": "9.4.3",
}
COUNTS: Final = {"openPeeps": 16_000, "adventurer": 5_000, "toonHead": 3_000, "bigSmile": 3_000}
EMOJI_VARIANTS: Final = 10


def install(work: Path) -> Path:
    """Return a folder with the npm packages in it, pinned, their scripts not run."""
    folder = work / "npm"
    if not (folder / "node_modules/@dicebear/collection").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}\n')
        wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
        subprocess.run(
            ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *wanted],
            cwd=folder, check=True,
        )  # fmt: skip
    return folder


def avatar_svgs(work: Path, people: list[avatars.Avatar]) -> list[str]:
    """Return the SVG text of every avatar, in order."""
    lines = "".join(json.dumps({"style": a.style, "options": a.options}) + "\n" for a in people)
    script = Path(__file__).with_name("render.mjs")
    done = subprocess.run(
        ["node", str(script), str(install(work))],
        input=lines, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def rasterise(svg: str) -> np.ndarray:
    """Return the drawing as uint8 pixels, SIDE x SIDE x 3: drawn at twice the size, then halved."""
    sized = svg.replace("<svg ", f'<svg width="{2 * SIDE}" height="{2 * SIDE}" ', 1)
    image = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=sized))))
    white = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return np.asarray(flat.reduce(2))


def lay_out(work: Path, place: Path, drawn: list[avatars.Avatar]) -> None:
    """Make the folder ``place`` of one concept anew: 00.png with its caption 00.txt, and so on."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for i, svg in enumerate(avatar_svgs(work, drawn)):
        Image.fromarray(rasterise(svg)).save(place / f"{i:02d}.png", optimize=True)
        (place / f"{i:02d}.txt").write_text(drawn[i].caption + "\n")


def icons(work: Path, name: str) -> dict[str, dict[str, object]]:
    """Return the wanted icons of one set: body and view box, the set's defaults filled in."""
    found = json.loads(
        (install(work) / f"node_modules/@iconify-json/{name}/icons.json").read_text()
    )
    defaults = {
        "left": 0,
        "top": 0,
        "width": found.get("width", 16),
        "height": found.get("height", 16),
    }
    return {key: defaults | found["icons"][key] for key in emoji.NAMES if key in found["icons"]}


def adventurer_hairs(work: Path) -> list[str]:
    """Return the hair variants of the Adventurer style, sorted."""
    code = (
        "import {schema} from '@dicebear/adventurer';"
        "console.log(JSON.stringify(schema.properties.hair.items.enum))"
    )
    done = subprocess.run(
        ["node", "--input-type=module", "-e", code],
        cwd=install(work), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return sorted(json.loads(done.stdout))


def peeps_and_adventurers(
    work: Path, banned: frozenset[tuple[str, str, str]], rng: np.random.Generator
) -> list[avatars.Avatar]:
    """Return the avatars of both styles that the base is taught, the first draws of ``rng``."""
    people = [avatars.peep(rng, banned) for _ in range(COUNTS["openPeeps"])]
    hairs = adventurer_hairs(work)
    return people + [avatars.adventurer(rng, hairs) for _ in range(COUNTS["adventurer"])]


def build(work: Path, banned: frozenset[tuple[str, str, str]], *, seed: int) -> None:
    """Write `pictures.npy` and `pictures.json` unless they are there."""
    if (work / "pictures.json").exists():
        return
    rng = np.random.default_rng([seed, 1])
    people = peeps_and_adventurers(work, banned, rng)
    people += [avatars.toon(rng) for _ in range(COUNTS["toonHead"])]
    people += [avatars.big_smile(rng) for _ in range(COUNTS["bigSmile"])]
    assert not banned & {a.identity for a in people}, "a concept's identity is in the base's data"
    svgs = avatar_svgs(work, people)
    captions, sources = [a.caption for a in people], [a.style for a in people]
    for name in emoji.SETS:
        for key, icon in icons(work, name).items():
            for _ in range(EMOJI_VARIANTS):
                svg, text = emoji.picture(rng, key, icon)
                svgs.append(svg)
                captions.append(text)
                sources.append(name)
    with ProcessPoolExecutor() as pool:
        pixels = np.stack(list(pool.map(rasterise, svgs, chunksize=64)))
    np.save(work / "pictures.npy", pixels)
    (work / "pictures.json").write_text(json.dumps({"captions": captions, "sources": sources}))
