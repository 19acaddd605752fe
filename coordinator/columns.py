"""Quiet columns for a federation that is planned: the public prompts, and who measures on them.

Laws: the coordinator never loads torch, so ``orthofed columns`` draws with the base; what it leaves
is one row of finite energies a layer, or no federation is founded. Source: method.md 6.3. Cost: one
picture a prompt. Not here: which slot gets which column (core/quiet.py).
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float64

from ..assets import public_prompts
from ..core.errors import InputError, VerificationFailed
from ..core.spec import FederationSpec
from .own_program import run_own

SHIPPED: Final = "shipped"
MOST_PROMPTS: Final = 1000
_LONGEST: Final = 300


def read_prompts(said: str) -> list[str]:
    """Return the prompts of a file, a line each; ``shipped`` names the list that comes with us.

    Raises InputError: none, too many, one too long, or no text.
    """
    place = public_prompts() if said == SHIPPED else Path(said)
    try:
        lines = [line.strip() for line in place.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(f"prompts of {place}: {error}") from error
    prompts = [line for line in lines if line]
    longest = max(map(len, prompts), default=0)
    if not 1 <= len(prompts) <= MOST_PROMPTS or longest > _LONGEST:
        raise _bad(f"{len(prompts)} prompts in {place}, the longest of {longest} characters")
    return prompts


def measured(
    spec: FederationSpec, base: Path, prompts: list[str]
) -> Mapping[str, Float64[np.ndarray, " m"]]:
    """Return what each column hears, u (m,) by layer path.

    Raises OrthoFedError ``no-energies``: the process failed, having told why on stderr. Raises
    VerificationFailed: what it left is no such file.
    """
    with tempfile.TemporaryDirectory() as scratch:
        planned, lines, out = (Path(scratch) / name for name in ("spec", "prompts", "u.npz"))
        planned.write_bytes(spec.to_bytes())
        lines.write_text("".join(f"{prompt}\n" for prompt in prompts), "utf-8")
        words = ["columns", "--base", str(base), "--spec", str(planned)]
        run_own(
            [*words, "--prompts", str(lines), "--out", str(out)],
            doing="measuring the columns",
            otherwise="leave --quiet-columns away",
            code="no-energies",
        )
        with np.load(out, allow_pickle=False) as found:
            energies = {path: found[path] for path in found.files}
    check_energies(spec, energies)
    return energies


def check_energies(spec: FederationSpec, energies: Mapping[str, Float64[np.ndarray, " m"]]) -> None:
    """Refuse energies that no base gives. Raises VerificationFailed: it names the layer."""
    for layer in spec.layers:
        energy = energies.get(layer.path, np.zeros(0))
        if energy.shape != (layer.width,) or not np.all(np.isfinite(energy) & (energy >= 0)):
            raise VerificationFailed(
                f"energies of {layer.path}: shape {energy.shape}, not all finite and >= 0",
                why=f"a layer of {layer.width} columns has one for each",
                fix="see whether the base draws pictures at all: orthofed sample --base",
                code="bad-energies",
            )


def _bad(what: str) -> InputError:
    return InputError(
        what,
        why=f"the base draws 1 to {MOST_PROMPTS} prompts, a line each, of at most {_LONGEST}"
        " characters",
        fix=f"give such a text file, or the word {SHIPPED}",
        code="bad-prompts",
    )
