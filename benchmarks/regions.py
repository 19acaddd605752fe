# pyright: basic
# torch publishes partial types.
"""Are both people there: two concepts in one picture, with regions and with one prompt.

    python benchmarks/regions.py --json                                 # an hour on two cores
    python benchmarks/regions.py --json --num 3 --train 4 --seeds 1 --drawn 32      # minutes

Aim: `both_present` >= .80 with `both_present_plain` below it. Concepts are taught and merged
(regions_taught.py), a classifier is taught who they are (regions_judge.py; or --judge embedder, a
network that never saw them: regions_embedder.py), and every ordered pair is drawn from the same
seeds by `orthofed sample`'s own code on the merged model:

    regions           "left: a peeps drawing of a A, ...", "right: ... B" at 128x64, the defaults
    regions_together  the same with --apart 0: masked attention alone
    plain             one prompt that names both, in two wordings

With regions both are present if the left half shows the left concept and the right half the right
one. A plain prompt has it easier: nine windows over the picture, each concept in any of them, in
any order, and the better one of the two wordings for each pair and seed. `single` is how often a
concept alone in a picture of the model's own size is found: what both together could reach is about
its square. Controls, on the same pictures: asked for the two exchanged, or for another one in
place of the left or the right. Intervals: bootstrap over pairs, then seeds, 95 %.
What was taught is kept in --work and not taught again; --grid draws the first pictures.
"""

import argparse
import datetime as dt
import itertools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from circumstances import commit, hardware
from PIL import Image
from regions_embedder import make_embedder_judge
from regions_judge import make_judge
from regions_taught import taught

from orthofed.assets import pocket_base, pocket_concepts
from orthofed.client.base import Base
from orthofed.client.drawing import Drawing
from orthofed.client.grid import grid
from orthofed.client.opened import Opened
from orthofed.client.variant import Variant
from orthofed.core.regions import Region

SAYS = "a peeps drawing of a {}, smiling, white background"  # as the concepts' own captions
WHOLE = "a peeps drawing of two people, smiling, white background"
PLAIN = (
    "a peeps drawing of a {} and a {}, smiling, white background",
    "a peeps drawing of two people, a {} and a {}, smiling, white background",
)
SIZE = (128, 64)
WINDOWS = tuple((x, 0, x + 64, 64) for x in range(0, 65, 8))

FIRST_SEED, SETS = 1000, 5000

Pair = tuple[str, str]
Drawn = Mapping[str, Sequence[Image.Image]]
"""From a way of drawing to a picture of each seed."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Draws one pair, or one concept alone, in a process of its own."""

    base: Path
    variants: Mapping[str, Variant]
    seeds: Sequence[int]

    def pair(self, pair: Pair) -> Drawn:
        places = zip(("left", "right"), pair, strict=True)
        regions = [Region.parse(f"{place}: {SAYS.format(name)}") for place, name in places]
        whole, alone = Drawing(regions, size=SIZE), Drawing(size=SIZE)
        return self._drawn(
            {
                "regions": (WHOLE, whole),
                "regions_together": (WHOLE, replace(whole, apart=0)),
                **{f"plain_{k}": (text.format(*pair), alone) for k, text in enumerate(PLAIN)},
            }
        )

    def one(self, name: str) -> Drawn:
        return self._drawn({"single": (SAYS.format(name), Drawing())})

    def aside(self, name: str) -> Drawn:
        """Return pictures for the judge's threshold, of other seeds."""
        far = replace(self, seeds=[seed + SETS for seed in self.seeds])
        return far.one(name)

    def _drawn(self, asked: Mapping[str, tuple[str, Drawing]]) -> Drawn:
        torch.set_num_threads(1)
        base = Base.load(self.base)
        with Variant.sum_of(list(self.variants.values())).applied(base) as tokens:
            model = Opened.of_base(base, tokens)
            return {key: model.draw(*how, self.seeds) for key, how in asked.items()}


def main() -> None:
    options = _options()
    torch.set_num_threads(options.processes)
    names = [path.name for path in sorted(options.concepts.iterdir()) if path.is_dir()]
    names, begun_s, ran = names[: options.num], time.monotonic(), commit()
    variants = taught(
        options.base,
        options.concepts,
        names,
        steps=options.train,
        work=options.work,
        processes=options.processes,
    )
    _says(f"{len(names)} concepts", begun_s)
    pairs = list(itertools.permutations(names, 2))
    draw = Draw(options.base, variants, range(FIRST_SEED, FIRST_SEED + options.seeds))
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        drawn = dict(zip(pairs, pool.map(draw.pair, pairs), strict=True))
        singly = replace(draw, seeds=range(FIRST_SEED, FIRST_SEED + 4 * options.seeds))
        alone = dict(zip(names, pool.map(singly.one, names), strict=True))
        aside = dict(zip(names, pool.map(singly.aside, names), strict=True))
    _says(f"{len(pairs)} ordered pairs", begun_s)
    if options.judge == "embedder":
        judge, report = make_embedder_judge(options.concepts, names)
    else:
        judge, report = make_judge(
            Base.load(options.base),
            options.concepts,
            names,
            alone={n: drawn["single"] for n, drawn in aside.items()},
            drawn=options.drawn,
        )
    _says("the judge", begun_s)
    single = {n: _rate([who == n for who in judge.people(alone[n]["single"])]) for n in names}
    counted = _counted(judge, drawn, names)
    if options.grid:
        _grid(drawn).save(options.grid)
    result = {
        "schema": "orthofed.regions/1",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/regions.py", *sys.argv[1:]]),
        "commit": ran,
        "hardware": hardware(),
        **counted,
        "single": round(float(np.mean([*single.values()])), 4),
        "aim": 0.8,
        "judge": {"kind": options.judge, **asdict(report)},
        "pictures_each": len(pairs) * options.seeds,
        "singles": single,
    }
    print(json.dumps(result, indent=2) if options.json else result["both_present"])


class Judge(Protocol):
    """Says who is in a picture: one of the concepts, or nobody of them."""

    def people(self, images: Sequence[Image.Image]) -> list[str | None]: ...


def _counted(judge: Judge, drawn: Mapping[Pair, Drawn], names: list[str]) -> dict[str, object]:
    """Return every share of pictures, with intervals of the first ones."""
    halves, anywhere = {}, {}
    for pair, ways in drawn.items():
        for way, images in ways.items():
            seen = [
                judge.people([image.crop(box) for image in images]) for box in WINDOWS
            ]  # by window, then seed
            halves[pair, way] = list(zip(seen[0], seen[-1], strict=True))
            anywhere[pair, way] = [set(one) for one in zip(*seen, strict=True)]

    def placed(way: str, wanted: Callable[[Pair], Pair]) -> np.ndarray:
        """Return (pairs, seeds): whether the halves show ``wanted`` of the pair."""
        return np.array([[one == wanted(p) for one in halves[p, way]] for p in drawn])

    def found(way: str) -> np.ndarray:
        return np.array([[{*p} <= one for one in anywhere[p, way]] for p in drawn])

    def other(name: str, pair: Pair) -> str:
        """Return the next concept that is none of the pair."""
        after = names[names.index(name) :] + names[: names.index(name)]
        return next(one for one in after if one not in pair)

    ways = {
        "both_present": placed("regions", lambda p: p),
        "both_present_plain": found("plain_0") | found("plain_1"),
        "both_present_together": placed("regions_together", lambda p: p),
    }
    return {
        **{key: _rate(hits) for key, hits in ways.items()},
        "intervals": {key: _interval(hits) for key, hits in ways.items()},
        "both_anywhere": _rate(found("regions")),
        "both_anywhere_together": _rate(found("regions_together")),
        "both_present_plain_halves": max(_rate(placed(f"plain_{k}", lambda p: p)) for k in (0, 1)),
        "controls": {
            "exchanged": _rate(placed("regions", lambda p: (p[1], p[0]))),
            "another_left": _rate(placed("regions", lambda p: (other(p[0], p), p[1]))),
            "another_right": _rate(placed("regions", lambda p: (p[0], other(p[1], p)))),
        },
        "one_half_present": {
            "left": _rate(_half(halves, drawn, 0)),
            "right": _rate(_half(halves, drawn, 1)),
        },
        "by_pair": {
            " ".join(p): {key: _rate(hits[k]) for key, hits in ways.items()}
            for k, p in enumerate(drawn)
        },
    }


def _half(
    halves: Mapping[tuple[Pair, str], Sequence[tuple[str | None, ...]]],
    drawn: Mapping[Pair, Drawn],
    side: int,
) -> np.ndarray:
    return np.array([[one[side] == p[side] for one in halves[p, "regions"]] for p in drawn])


def _rate(hits: np.ndarray | Sequence[bool]) -> float:
    return round(float(np.mean(hits)), 4)


def _interval(hits: np.ndarray, draws: int = 4000) -> list[float]:
    """Return 2.5 and 97.5 % of the mean over pairs and seeds drawn again. Shape: (pairs, seeds)."""
    rng, (pairs, seeds) = np.random.default_rng(6), hits.shape
    p = rng.integers(pairs, size=(draws, pairs, 1))
    s = rng.integers(seeds, size=(draws, pairs, seeds))
    low, high = np.quantile(hits[p, s].mean((1, 2)), [0.025, 0.975])
    return [round(float(low), 4), round(float(high), 4)]


def _grid(drawn: Mapping[Pair, Drawn], pairs: int = 6) -> Image.Image:
    """Return the first picture of every way, for pairs from all over the list."""
    rows = list(drawn.items())[:: max(1, len(drawn) // pairs)][:pairs]
    return grid(
        [
            [
                (image, f"{way}: {' '.join(pair)}")
                for way, images in ways.items()
                for image in images[:2]
            ]
            for pair, ways in rows
        ]
    )


def _says(what: str, begun_s: float) -> None:
    print(f"{what}: {time.monotonic() - begun_s:.0f} s", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="two concepts in one picture")
    parser.add_argument("--json", action="store_true", help="the whole result")
    parser.add_argument("--base", type=Path, default=pocket_base())
    parser.add_argument("--concepts", type=Path, default=pocket_concepts())
    parser.add_argument("--work", type=Path, default=Path("build/regions"), help="what was taught")
    parser.add_argument("--num", type=int, default=6, help="concepts")
    parser.add_argument("--train", type=int, default=1000, help="steps of each concept")
    parser.add_argument(
        "--seeds", type=int, default=4, help="pictures of each ordered pair and way"
    )
    parser.add_argument("--drawn", type=int, default=240, help="pictures of the base for the judge")
    parser.add_argument("--judge", choices=("classifier", "embedder"), default="classifier")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--grid", type=Path, help="some of the pictures, PNG")
    return parser.parse_args()


if __name__ == "__main__":
    main()
