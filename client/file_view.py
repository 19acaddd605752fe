"""What `orthofed doctor FILE` prints: the file, one line a program, one line a check."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..core.file_fix import FileFix
from ..core.loaders import Outcome, Verdict
from ..core.module_spelling import Family
from ..core.shown import shown
from .examined_file import ExaminedFile

_NAMES: Final[dict[Family, str]] = {
    "sd1": "Stable Diffusion 1",
    "sd2": "Stable Diffusion 2",
    "sdxl": "Stable Diffusion XL",
}
_WORDS: Final[dict[Outcome, str]] = {"all": "yes", "part": "in part", "nothing": "no"}
_MADE_FOR: Final = ("embedding", "whole checkpoint in one file")
_FIRST: Final = 3
_LONGEST: Final = 120


@dataclass(frozen=True, slots=True)
class Fixed:
    """The copy that was written at ``out``, None where there was nothing to change."""

    out: Path | None
    fix: FileFix


def fix_text(fixed: Fixed) -> str:
    """Return what was changed and what could not be, as lines."""
    lines = [f"changed: {each}" for each in fixed.fix.changes]
    lines += [f"left as it is: {each}" for each in fixed.fix.left]
    if fixed.out is None:
        return "\n".join([*lines, "nothing to change, so no copy was written", ""])
    return "\n".join([*lines, f"wrote {shown(str(fixed.out), 200)}; this is the copy:", ""])


def file_text(file: ExaminedFile) -> str:
    """Return the report as lines for a terminal. Nothing of the file goes there unescaped (T8)."""
    lines = [f"{shown(file.path.name)}: {file.kind.kind if file.kind else 'not read'}"]
    lines += [f"  {name:<9} {text}" for name, text in _facts(file)]
    if file.loads:
        lines += ["", "loads in"]
        lines += [line for verdict in file.loads for line in _verdict_lines(verdict)]
    lines += ["", "checks"]
    for check in file.checks:
        lines.append(f"  {check.level:<4}  {check.name}: {check.what}")
        if check.fix:
            lines.append(f"        fix: {check.fix}")
    return "\n".join(lines)


def file_json(file: ExaminedFile, fixed: Fixed | None = None) -> dict[str, Any]:
    """Return the report as schema ``orthofed.doctor.file/1``; every key left over is in it."""
    told = fixed and {
        "out": fixed.out and str(fixed.out),
        "changes": list(fixed.fix.changes),
        "left": list(fixed.fix.left),
    }
    kind = file.kind
    return {
        "schema": "orthofed.doctor.file/1",
        "file": file.path.name,
        "bytes": file.size,
        "healthy": not file.failed,
        "fixed": told,
        "kind": kind.kind if kind else None,
        "families": list(kind.families) if kind else [],
        "algorithms": list(kind.algorithms) if kind else [],
        "tensors": len(file.header.tensors) if file.header else 0,
        "modules": kind.modules if kind else 0,
        "dtypes": list(file.dtypes),
        "ranks": [{"rank": r, "modules": n} for r, n in kind.ranks.items()] if kind else [],
        "loads": [
            {
                "program": each.program,
                "outcome": each.outcome,
                "left": list(each.left),
                "why": each.why,
            }
            for each in file.loads
        ],
        "checks": [
            {"level": each.level, "name": each.name, "what": each.what, "fix": each.fix}
            for each in file.checks
        ],
    }


def _facts(file: ExaminedFile) -> list[tuple[str, str]]:
    kind, header = file.kind, file.header
    size = f"{file.size:,} bytes"
    if kind is None or header is None:
        return [("size", size)]
    bases = " or ".join(_NAMES[family] for family in kind.families)
    facts = list[tuple[str, str]]()
    if bases or kind.is_lora or kind.kind in _MADE_FOR:
        facts.append(("for", bases or "a base model that is not SD 1, SD 2 or SDXL"))
    if kind.modules:
        facts.append(("adapts", f"{kind.modules} layers, {', '.join(kind.algorithms)}"))
    if kind.ranks:
        facts.append(("rank", _ranks(kind.ranks)))
    count = len(header.tensors)
    types = ", ".join(file.dtypes) or "no type"
    return [*facts, ("holds", f"{count} tensor{'s' * (count != 1)}, {types}, {size}")]


def _ranks(ranks: Mapping[int, int]) -> str:
    if len(ranks) == 1:
        return str(next(iter(ranks)))
    told = [f"{rank} in {count} layers" for rank, count in list(ranks.items())[:_FIRST]]
    more = f" and {len(ranks) - _FIRST} more" if len(ranks) > _FIRST else ""
    return ", ".join(told) + more


def _verdict_lines(verdict: Verdict) -> list[str]:
    said = _WORDS[verdict.outcome]
    if verdict.outcome == "part":
        said += f", {len(verdict.left)} keys left over"
    line = f"  {verdict.program:<9} {said}"
    lines = [f"{line}: {verdict.why}" if verdict.why else line]
    if verdict.outcome == "part":
        lines += [f"{'':<12}{shown(name, _LONGEST)}" for name in verdict.left[:_FIRST]]
        if len(verdict.left) > _FIRST:
            lines.append(f"{'':<12}and {len(verdict.left) - _FIRST} more; --json names them")
    return lines
