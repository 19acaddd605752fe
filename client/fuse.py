"""`orthofed fuse`: one LoRA in which the concepts of a release bear each other's company.

    1  each concept alone, its columns and its words, draws pictures           variant.py, sample.py
    2  meanwhile every layer's inputs leave their Gram matrix behind           activations.py
    3  a layer at a time, the columns are fitted anew to all of them           core/fusion.py
    4  each draws again, from other noise: how far are the answers off now?

Laws: what is drawn follows from release, base, prompts and seed, so nobody's images are needed; the
down side, each concept's B_i, stays as leased to the bit, and rank and size stay the release's. The
result is not the exact merge: nobody signed it, no proof holds for it, and another machine's bits
may differ. It is fitted at weight 1 of every concept, whatever the release was merged with. Cost:
PICTURES + 1 pictures a prompt and concept; R (R + n) numbers a layer, however many concepts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ..core.card_use import shown_prompt
from ..core.errors import InputError
from ..core.fusion import Fit, error
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
from .variant import Variant, stacked_metadata, triggers_of
from .write_file import write_file

PICTURES: Final = 4
STEPS: Final = 12
PLAIN: Final = "a picture of {}"
OnConcept = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Kept:
    """How far one concept's own inputs are answered from how it answers them alone.

    Shares of its own change's energy, over all layers, on pictures that nothing was fitted to:
    ``summed`` in the plain sum of all concepts at weight 1, ``fused`` in what was made.
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
        phrases = {name: phrase_of([*map(Trigger, words)]) for name, words in concepts.items()}
        asked = {name: [p.format(said) for p in prompts] for name, said in phrases.items()}
        company = _Company(self, base, Variant.of_release(self.folder, self.spec), asked)
        ups = company.fitted(on_concept)
        kept = company.kept(ups, on_concept)
        part = out.with_name(f".{out.name}.part")
        part.unlink(missing_ok=True)  # of a run that was cut here
        write_file(out.parent, self._file(part.name, company.downs, ups))
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

    def _file(
        self, name: str, downs: Mapping[str, np.ndarray], ups: Mapping[str, np.ndarray]
    ) -> TensorFile:
        """Return the release's stacked file with other up sides: same names, rank and type."""
        said = stacked_metadata(self.folder)
        rank = next(iter(ups.values())).shape[1]
        by_key = sorted((kohya_key(path, self.spec.base.family), path) for path in ups)
        values = [[np.array(float(rank)), downs[path], ups[path]] for _, path in by_key]

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


@dataclass(frozen=True, slots=True)
class _Company:
    """All concepts of one release at weight 1, and what each is drawn by, slots ascending."""

    fusion: Fusion
    base: Base
    together: Variant
    asked: Mapping[str, Sequence[str]]

    @property
    def downs(self) -> dict[str, np.ndarray]:
        """D of every layer, (R, m)."""
        return {path: residual.down for path, residual in self.together.residuals.items()}

    def fitted(self, on_concept: OnConcept) -> dict[str, np.ndarray]:
        """Return U of every layer, (n, R)."""
        shapes = {path: each.up.shape for path, each in self.together.residuals.items()}
        fits = {path: Fit.begun(*shape) for path, shape in shapes.items()}
        for number, concept in enumerate(self.asked):
            on_concept(concept, number, 2 * len(self.asked))
            for path, gram in self._inputs(concept, PICTURES, self.fusion.seed).items():
                fits[path].add(self._alone(path, number), gram)
        return {path: fit.solved() for path, fit in fits.items()}

    def kept(self, ups: Mapping[str, np.ndarray], on_concept: OnConcept) -> tuple[Kept, ...]:
        """Return how well each concept's inputs are answered, on a picture of other noise."""
        found = list[Kept]()
        for number, concept in enumerate(self.asked):
            on_concept(concept, len(self.asked) + number, 2 * len(self.asked))
            energies = np.zeros(3)
            for path, gram in self._inputs(concept, 1, self.fusion.seed + 1).items():
                alone = self._alone(path, number)
                summed = self.together.residuals[path].up.astype(np.float64)
                before, whole = error(summed, alone, gram)
                energies += before, error(ups[path], alone, gram)[0], whole
            before, after, whole = (float(each) for each in energies)
            found.append(Kept(concept, *((before / whole, after / whole) if whole else (0.0, 0.0))))
        on_concept("", 2 * len(self.asked), 2 * len(self.asked))
        return tuple(found)

    def _inputs(self, concept: str, count: int, seed: int) -> dict[str, np.ndarray]:
        """Return G_i of every layer, (R, R) by path, while ``concept`` alone is drawn."""
        alone = Variant.of_release(self.fusion.folder, self.fusion.spec, only=concept)
        with alone.applied(self.base) as tokens, grams(self.base, self.downs) as found:
            draw(self.base, tokens, self.asked[concept], count=count, seed=seed, steps=STEPS)
        return found

    def _alone(self, path: str, number: int) -> np.ndarray:
        """Return U_i of concept ``number``: its columns, 0 in all others."""
        up = self.together.residuals[path].up.astype(np.float64)
        spec = self.fusion.spec
        rank = next(spec.layer_rank(each) for each in spec.layers if each.path == path)
        columns = np.arange(up.shape[1]) // rank  # its number, then padding
        return np.where(columns == number, up, 0.0)
