"""`orthofed fuse`: one LoRA in which the concepts of a release bear each other's company.

    1  each concept alone, its columns and its words, draws pictures           variant.py, sample.py
    2  meanwhile every layer's inputs leave their Gram matrix behind           activations.py
    3  a layer at a time, the columns are fitted anew to all of them           core/fusion.py

Laws: what is drawn follows from release, base, prompts and seed, so nobody's images are needed; the
down side, each concept's B_i, stays as leased to the bit, and rank and size stay the release's. The
result is not the exact merge: nobody signed it, no proof holds for it, and another machine's bits
may differ. It is fitted at weight 1 of every concept, whatever the release was merged with. Cost:
two to three times the drawing of `prompts` x PICTURES pictures a concept; the matrices are R x R.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ..core.card_use import shown_prompt
from ..core.errors import InputError
from ..core.fusion import error, fused
from ..core.lorafile import kohya_key, lora_entries
from ..core.release_file import TensorFile
from ..core.rounding import round_once
from ..core.spec import FederationSpec
from .activations import grams
from .base import Base, check_base
from .placement import Machine, Placement
from .sample import draw
from .score import phrase_of
from .trigger import Trigger
from .variant import Residual, Variant, stacked_metadata, triggers_of
from .write_file import write_file

PICTURES: Final = 4
STEPS: Final = 12
PLAIN: Final = "a picture of {}"
OnConcept = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Kept:
    """How far one concept's own inputs are answered from how it answers them alone.

    Shares of its own change's energy, over all layers: ``summed`` in the plain sum of all concepts
    at weight 1, ``fused`` in what was made.
    """

    concept: str
    summed: float
    fused: float


@dataclass(frozen=True, slots=True)
class Fusion:
    """One release beside its base. ``prompts``: `{}` is where a concept's words go."""

    folder: Path
    spec: FederationSpec
    base: Path
    prompts: Sequence[str] = ()
    seed: int = 0
    device: str = "auto"

    def write(self, out: Path, on_concept: OnConcept = lambda *_: None) -> tuple[Kept, ...]:
        """Write the fused LoRA to ``out``, whole or not at all; return what it keeps.

        Raises InputError: a file is there, a base that is not the release's, no such device, a
        prompt without a place for the concept, or fewer than two concepts.
        """
        if out.exists():
            raise InputError(
                f"{out} is there already",
                why="one model is not written over another",
                fix="give another name with -o, or remove it",
                code="file-taken",
            )
        prompts = self._checked_prompts()
        concepts = triggers_of(self.folder)
        if len(concepts) < 2:  # noqa: PLR2004  # company begins at two
            raise InputError(
                f"the release holds {len(concepts)} concept",
                why="concepts are fitted to each other's company",
                fix="use the release's own LoRA, which is exact",
                code="nothing-to-fuse",
            )
        check_base(self.base, self.spec)
        base = Base.load(self.base, placement=Placement.of(self.device, "fp32", Machine.here()))
        seen = dict[str, Mapping[str, np.ndarray]]()
        for number, (concept, words) in enumerate(concepts.items()):
            on_concept(concept, number, len(concepts))
            phrase = phrase_of([Trigger(word) for word in words])
            seen[concept] = self._inputs(base, concept, [p.format(phrase) for p in prompts])
        on_concept("", len(concepts), len(concepts))
        ups, kept = self._fitted(seen)
        part = out.with_name(f".{out.name}.part")
        part.unlink(missing_ok=True)  # of a run that was cut here
        write_file(out.parent, self._file(part.name, ups))
        part.replace(out)
        return kept

    def _checked_prompts(self) -> list[str]:
        for prompt in self.prompts:
            if prompt.count("{}") != 1 or prompt.count("{") + prompt.count("}") != 2:  # noqa: PLR2004  # the pair
                raise InputError(
                    f"prompt {prompt[:60]!r} has no single {{}}",
                    why="each concept's own words are put there",
                    fix='write it as --prompt "a picture of {}"',
                    code="no-place",
                )
        return [*self.prompts] or [shown_prompt(self.spec.prompt, "{}"), PLAIN]

    def _inputs(self, base: Base, concept: str, prompts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return G_i of every layer, (R, R) by path, while ``concept`` alone is drawn."""
        alone = Variant.of_release(self.folder, self.spec, only=concept)
        rows = {path: residual.down for path, residual in alone.residuals.items()}
        with alone.applied(base) as tokens, grams(base, rows) as found:
            draw(base, tokens, prompts, count=PICTURES, seed=self.seed, steps=STEPS)
        return found

    def _fitted(
        self, seen: Mapping[str, Mapping[str, np.ndarray]]
    ) -> tuple[dict[str, Residual], tuple[Kept, ...]]:
        """Return the residuals of all layers, and how well each concept's inputs are answered."""
        together = Variant.of_release(self.folder, self.spec)
        found, energies = dict[str, Residual](), np.zeros((len(seen), 3))
        for layer in self.spec.layers:
            path, rank = layer.path, self.spec.layer_rank(layer)
            summed = together.residuals[path].up.astype(np.float64)
            columns = np.arange(summed.shape[1]) // rank  # the concept's number, then padding
            own = [np.where(columns == number, summed, 0.0) for number in range(len(seen))]
            inputs = [each[path] for each in seen.values()]
            up = fused(own, inputs)
            found[path] = Residual(up, together.residuals[path].down)
            for number, (alone, gram) in enumerate(zip(own, inputs, strict=True)):
                before, whole = error(summed, alone, gram)
                energies[number] += (before, error(up, alone, gram)[0], whole)
        kept = [
            Kept(concept, float(before / whole), float(after / whole))
            for concept, (before, after, whole) in zip(seen, energies, strict=True)
        ]
        return found, tuple(kept)

    def _file(self, name: str, residuals: Mapping[str, Residual]) -> TensorFile:
        """Return the release's stacked file with other up sides: same names, rank and type."""
        said = stacked_metadata(self.folder)
        rank = next(iter(residuals.values())).up.shape[1]
        by_key = sorted(
            (kohya_key(p, self.spec.base.family), each) for p, each in residuals.items()
        )
        values = [[np.array(float(rank)), each.down, each.up] for _, each in by_key]

        def metadata(digest: str) -> dict[str, str]:
            return {
                **{key: text for key, text in said.items() if key != "orthofed.content"},
                "modelspec.hash_sha256": f"0x{digest}",
                "modelspec.title": f"{said['modelspec.title']}, fused",
                "ss_output_name": f"{said['ss_output_name']}-fused",
                "sshs_model_hash": digest,
            }

        return TensorFile(
            name,
            "lora",
            "F16",
            tuple((key, "F16", shape) for key, shape in lora_entries(self.spec, rank)),
            [round_once(x.astype(np.float64), "F16").tobytes() for each in values for x in each],
            metadata,
        )
