"""The words of `python -m study`."""

import argparse
from pathlib import Path

from .recipes import FACTORS, METHODS
from .sets import SETS

ASSETS = Path(__file__).parent.parent.parent / "assets"
SMOKE = ("tokens", "lora", "lora_fusion", "equal", "hadamard", "hadamard_refit")


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """Return the options; what hangs on others is filled in. Raises SystemExit: not to be had."""
    parser = _parser()
    options = parser.parse_args(words)
    if options.draw_only and not options.add:
        parser.error("--draw-only draws pictures of what stands in a result: give it by --add")
    if options.draw_only and not options.pictures:
        parser.error("--draw-only with --pictures 0 does nothing")
    if options.smoke:
        options.num, options.steps, options.draws, options.tune = 2, 6, 16, 0
        options.sampling, options.lambdas = 4, [1.0]
        options.pictures = min(options.pictures, 1)
        options.sizes = ["2=1"]
    options.methods = options.methods or [*(SMOKE if options.smoke else METHODS)]
    people = SETS[options.people].folder
    folders = sorted(path.name for path in people.iterdir() if path.is_dir())
    options.names = tuple(folders[: options.num])
    options.start = {k: float(v) for k, _, v in (text.partition("=") for text in options.start)}
    if strange := {*options.start.values()} - {*FACTORS}:
        tried = ", ".join(f"{each:g}" for each in FACTORS)
        parser.error(f"--start: {strange.pop():g} is none of the factors that are tried, {tried}")
    sizes = dict(text.split("=") for text in options.sizes)
    options.sizes = {int(k): int(v) for k, v in sizes.items() if int(k) <= len(folders)}
    options.cells = options.cells or [
        "1@1", *(f"{max(options.sizes)}@{lambda_:g}" for lambda_ in options.lambdas)
    ]  # fmt: skip
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m study", description="one study of many methods"
    )
    add = parser.add_argument
    add("--smoke", action="store_true", help="2 concepts, 6 steps, 6 methods")
    add("--base", type=Path, default=ASSETS / "pocket-base")
    add("--people", choices=SETS, default="peeps", help="which twelve")
    add("--work", type=Path, default=Path("../build/study"), help="what is kept")
    add("--out", type=Path, default=Path("../build/study/study.json"))
    add("--add", type=Path, metavar="RESULT", help="an earlier run's, to add to")
    add("--num", type=int, default=12, help="concepts")
    add("--steps", type=int, default=0, help="0: the trainer's own")
    add("--draws", type=int, default=256)
    add("--tune", type=int, default=2, help="concepts to choose a rate on; 0: none")
    add("--start", nargs="*", default=["lora=0.3"], metavar="RECIPE=FACTOR", help="first factors")
    add(
        "--sizes",
        nargs="+",
        default=["3=12", "6=4", "12=1"],
        metavar="N=SETS",
        help="sets of each size; those of fewer are among those of more",
    )
    add("--lambdas", type=float, nargs="+", default=[1.0, 0.6])
    add("--methods", nargs="+", choices=METHODS)
    add("--pictures", type=int, default=4, help="a prompt; 0: none are drawn")
    add(
        "--cells",
        nargs="+",
        metavar="SIZE@LAMBDA",
        help="those whose pictures are drawn; default: 1@1 and the largest sets",
    )
    add(
        "--draw-only",
        action="store_true",
        help="draw pictures of what stands in RESULT, and train and score nothing; what is not "
        "in --work any more is trained again at the factor that RESULT tells",
    )
    add("--sampling", type=int, default=25, help="steps of a picture")
    add("--processes", type=int, default=2, help="1: this one alone")
    add("--seed", type=int, default=0, help="of the trainings; all else is the same for every seed")
    return parser
