r"""One picture: each person of the largest set, a row a model, by one prompt and from one noise.

    cd benchmarks && python -m study.company results/study-cpu-1.json --work FOLDER \
        --rows alone hadamard_null10@1 hadamard_null10@0.6 hadamard_null10_refit@1 --out company.png

`alone` is each person in a model of its own, by the first method named. Rates are those of the
result; what was trained or drawn before in FOLDER is taken from there (pictures.py). Nothing is
chosen by hand: the first picture of the first prompt, the same noise in every row.
"""

import argparse
import json
from pathlib import Path

from PIL import Image

from orthofed.client.grid import labelled

from .bench import Bench, Conditions, one_thread
from .pictures import Gallery
from .trial import Trial

ASSETS = Path(__file__).parent.parent.parent / "assets"
SIDE = 64


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m study.company", description="one picture")
    parser.add_argument("result", type=Path)
    parser.add_argument("--work", type=Path, default=Path("../build/study"))
    parser.add_argument("--rows", nargs="+", metavar="METHOD@LAMBDA", required=True)
    parser.add_argument("--base", type=Path, default=ASSETS / "pocket-base")
    parser.add_argument("--out", type=Path, default=Path("../build/study/company.png"))
    options = parser.parse_args()
    result = json.loads(options.result.read_text())
    people, names = result.get("people", "peeps"), tuple(result["concepts"])
    steps = result["steps"] if isinstance(result["steps"], int) else 0
    one_thread()
    gallery = Gallery(
        Bench(Conditions(options.base, people, options.work, names, steps=steps)), count=1
    )
    first = next(row for row in options.rows if "@" in row).partition("@")[0]
    rows = []
    for row in options.rows:
        method, _, value = row.partition("@") if "@" in row else (first, "", "1")
        factor = result["methods"][method]["factor"]
        sets = [(name,) for name in names] if row == "alone" else [names]
        sheets = {}
        for chosen in sets:
            sheets |= gallery.sheets(Trial(method, factor, chosen, float(value)))
        rows.append([Image.open(sheets[name]).crop((0, 0, SIDE, SIDE)) for name in names])
    picture = labelled(rows, list(names), list(options.rows))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    picture.save(options.out, optimize=True)
    print(options.out)


if __name__ == "__main__":
    main()
