"""The times of a merge, in turns: files alone, then a release and the next ones after it.

Used by merge.py beside it, which says what each figure is. Everything of one number of concepts
takes turns with a copy of the same checkpoint, so that a ratio compares neighbours in time.
"""

import os
import shutil
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from merge_case import Case, timed

Times = dict[str, list[tuple[float, float]]]
_PIECE = 1 << 24
_COUNTED = ("checkpoint", "copy", "lora", "release", "add", "remove")


def take_turns(case: Case, numbers: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Return the figures of each number of concepts; one checkpoint before them does not count."""
    times: dict[int, Times] = {number: defaultdict(list) for number in numbers}
    with case.out() as out, case.merge(numbers[0]) as merge:
        case.checkpoint(out, merge)
    for turn in range(rounds):
        for number in numbers:
            found = _turn(case, number)
            told = {key: round(wall_s, 2) for key, (wall_s, _) in found.items()}
            print(f"turn {turn}, {number}: {told}, load {_load()}", file=sys.stderr)
            for key, value in found.items():
                times[number][key].append(value)
    return [_figures(number, times[number]) for number in numbers]


def _turn(case: Case, number: int) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    with case.out() as out, case.merge(number) as merge:
        _free_pages(case, out)
        found["checkpoint"] = timed(lambda: case.checkpoint(out, merge))
        _free_pages(case, out)
        found["copy"] = timed(lambda: _copy(out / "checkpoint", out / "copy"))
        found["lora"] = timed(lambda: case.lora(out, merge))
    with case.out() as out:
        _free_pages(case, out)
        found["release"] = timed(lambda: case.release(out, 1, number))
        for key, more in (("add", 1), ("remove", -1)):
            _free_pages(case, out)
            found[key] = timed(lambda more=more: case.release(out, 2, number + more))
            shutil.rmtree(out / "public" / "releases" / "2")
    return found


def _free_pages(case: Case, out: Path) -> None:
    """Write and delete as many bytes as the base has.

    A virtual machine may give memory that nobody uses back to its host, and the next to write pays
    for it: so each work finds as much that was in use just now.
    """
    left = sum(path.stat().st_size for path in case.base.rglob("*.safetensors"))
    piece = bytes(_PIECE)
    with NamedTemporaryFile(dir=out) as file:
        while left > 0:
            left -= file.write(piece)


def _figures(number: int, times: Times) -> dict[str, Any]:
    pairs = list(zip(times["checkpoint"], times["copy"], strict=True))
    ratios = sorted(ours / theirs for (ours, _), (theirs, _) in pairs)
    told: dict[str, Any] = {
        "concepts": number,
        "copy_ratio": round(statistics.median(ratios), 3),
        "copy_ratio_range": [round(ratios[0], 3), round(ratios[-1], 3)],
        "cpu_ratio": round(statistics.median(ours / theirs for (_, ours), (_, theirs) in pairs), 3),
    }
    for key in _COUNTED:
        told[f"{key}_s"] = round(statistics.median(wall_s for wall_s, _ in times[key]), 3)
    for key in _COUNTED:
        told[f"{key}_cpu_s"] = round(statistics.median(cpu_s for _, cpu_s in times[key]), 3)
    return {**told, "load": _load()}


def _copy(source: Path, target: Path) -> None:
    """Copy the weight files as the standard library does, then sync each."""
    for path in sorted(source.rglob("*.safetensors")):
        to = target / path.relative_to(source)
        to.parent.mkdir(parents=True)
        shutil.copyfile(path, to)
        sync(to)


def sync(path: Path) -> None:
    """Have a file's bytes on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _load() -> float:
    return round(os.getloadavg()[0], 2)
