"""Where an ordinary LoRA is brought into a slot, in the place of a training from images.

File -> layers of the federation; what lies elsewhere is counted and dropped -> words that call it
-> before the lease what slot 0 would keep, as an estimate -> in the leased slot A' and distillation
(distillation.py) -> figures for the owner's eye. Law: of the file only numbers of adapted layers
and the rows of its words go on; no name or metadata of it is in any record that could leave.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..core.errors import InputError
from ..core.spec import FederationSpec
from .adapter_file import AdapterFile
from .home import write_whole
from .session import Session
from .state import FIDELITY
from .train_options import TrainOptions
from .workbench import Workbench

if TYPE_CHECKING:
    from .distillation import Importer
    from .step import Step
    from .teacher import Foreign, Teacher
    from .trained import Trained

# torch costs seconds to import, so every import of it stands in the function that needs it.
# ruff: noqa: PLC0415

_MOST_RANK: Final = 1024
"""Rows of a LoRA's down: extracted ones have some hundreds, and Gram matrices cost rank^2 (T5)."""

ENOUGH_KEPT: Final = 0.9
"""Share of the LoRA's answers that A' must keep for no distillation (our choice, method.md 7)."""


@dataclass(frozen=True)  # no slots, as Workbench
class ImportBench(Workbench):
    """The base, one LoRA file and the words that call it."""

    embedding: Path | None = None
    foreign_trigger: str = ""
    distil: bool | None = None  # None: where less than ENOUGH_KEPT is kept
    made_from: int = 0  # images that the LoRA was made from, by its owner's word; 0: not said

    @staticmethod
    def asking(
        *,
        embedding: Path | None,
        foreign_trigger: str,
        distil: bool | None,
        num_images: int | None = None,
    ) -> Callable[[FederationSpec, TrainOptions], Workbench]:
        """Return what makes the bench of a federation; the file is the options' ``images``.

        It raises InputError where the concept is shared and ``num_images`` is None, or else; where
        the settings ask for differential privacy; where they cannot be read.
        """

        def made(spec: FederationSpec, options: TrainOptions) -> Workbench:
            if options.shared != (num_images is not None):
                words = ["--shared or --share", "--num-images"]
                raise InputError(
                    " without ".join(words if options.shared else reversed(words)),
                    why="a part weighs by the images behind it, and a LoRA does not say how many",
                    fix="give --num-images with --shared or --share, and without them leave it out",
                    code="options-differ",
                )
            bench = ImportBench(
                spec,
                options.base,
                options.images,
                options.noun,
                triggers=options.triggers or (options.concept,),
                config=options.config,
                preset=options.preset,
                steps=options.steps,
                seed=options.seed,
                device=options.device,
                kept=options.kept,
                embedding=embedding,
                foreign_trigger=foreign_trigger,
                distil=distil,
                made_from=num_images or 0,
            )
            if bench.settings.dp_epsilon:  # of an import that goes on too, which leases nothing
                raise InputError(
                    "differential privacy of an import",
                    why="noise here would cover none of the images that the LoRA was made from",
                    fix="leave dp_epsilon away, or train from the images",
                    code="bad-dp",
                )
            return bench

        return made

    @property
    def has_images(self) -> bool:
        """There are none: what is known of the LoRA is the LoRA."""
        return False

    @property
    def num_images(self) -> int:
        """How many the LoRA was made from, as its owner says."""
        return self.made_from

    def _sources(self) -> dict[str, Callable[[], object]]:
        """Return the file and the words that call it."""
        from .images_digest import file_digest

        words = self.embedding
        return {
            "LoRA": lambda: file_digest(self.images_folder).hex(),
            "embedding": lambda: file_digest(words).hex() if words is not None else "",
            "foreign_trigger": lambda: self.foreign_trigger,
            "distil": lambda: self.distil,
            "num_images": lambda: self.made_from,
        }

    @cached_property
    def file(self) -> AdapterFile:
        """The LoRA's header, checked.

        Raises InputError: it is no LoRA that adds to weights.
        """
        opened = AdapterFile.open(self.images_folder, self.spec)
        if opened.strange:
            raise InputError(
                f"{len(opened.strange)} tensors that are no part of a plain LoRA",
                why="what they do is no sum of weight changes (DoRA and LyCORIS are not)",
                fix="give a plain LoRA, or merge and extract one with the tool that made it",
                code="bad-adapter",
            )
        ranks = [s["down"].shape[0] for s in opened.modules.values() if "down" in s]
        if (most := max(ranks, default=0)) > _MOST_RANK:  # by the header, before a tensor is read
            raise InputError(
                f"a LoRA of rank {most}, allowed is {_MOST_RANK}",
                why="what a slot keeps of it is computed from every row",
                fix="extract a LoRA of a smaller rank with the tool that made it",
                code="bad-adapter",
            )
        return opened

    @cached_property
    def foreign(self) -> "Foreign":
        """The changes of adapted layers and the rows of the words that call them."""
        from .foreign_words import rows_of
        from .teacher import Foreign
        from .variant import Residual

        residuals = dict[str, Residual]()
        for layer in self.spec.layers:
            change = self.file.change(layer)
            if change.energy > 0:
                up = (change.up * change.scale).astype("float32")
                residuals[layer.path] = Residual(up, change.down.astype("float32"))
        return Foreign(residuals, rows_of(self.base, self.embedding, self.foreign_trigger))

    @cached_property
    def teacher(self) -> "Teacher":
        """The LoRA over the base, sampled once for all slots that it is measured in."""
        from .teacher import Teacher

        layers = self.spec.token_layers
        told = (self.base, self.foreign, self.noun)
        return Teacher(*told, seed=self.settings.seed, token_layers=layers)

    def before_lease(
        self, session: Session, home: Path
    ) -> Iterator[tuple[str, Mapping[str, object]]]:
        """Read all, say what is dropped, and what slot 0 would keep: another keeps about as much.

        Of a share it is said what its own slot keeps.

        Raises OrthoFedError: the file, the words or the settings are bad.
        """
        del home
        yield "checking", {"what": "base, LoRA and settings"}
        yield "dropped", self._dropped()
        yield "checking", {"what": "what a slot would keep"}
        importer = self.importer(session, max(session.block, 0))
        yield "kept", self._kept(importer)

    def importer(self, session: Session, slot: int) -> "Importer":
        """Return the LoRA's nearest A' in ``slot``, ready to be distilled."""
        from .distillation import Importer
        from .teacher import check_vectors

        triggers = session.as_triggers()
        check_vectors(triggers, self.foreign)  # before the LoRA is sampled, which takes long
        return Importer(self.teacher, self.spec, slot, triggers, self.settings)

    def train(
        self,
        session: Session,
        saves: Path,
        *,
        cache: Path,
        classes: Path,
        log: Path,
        on_step: "Callable[[Step], None]",
    ) -> "Trained":
        """Return what goes into the leased slot; goes on from the newest save in ``saves``."""
        from .checkpoint import TrainingSaves
        from .step import Step
        from .trained import Trained

        del cache, classes
        started_s = time.monotonic()
        importer = self.importer(session, session.block)
        wanted = importer.kept < ENOUGH_KEPT if self.distil is None else self.distil
        steps = 0

        def told(number: int, loss: float) -> None:
            left_s = (time.monotonic() - started_s) / number * (self.settings.steps - number)
            rate = self.settings.rate * self.settings.rate_at(number - 1)
            total = self.settings.steps
            on_step(Step(number, total, loss, 0.0, 0.0, rate, left_s, importer.tokens))

        if wanted:
            kept = TrainingSaves(saves, importer.identity(session.fence))
            steps = importer.distil(saves=kept, on_step=told)
        found = importer.result(steps)
        figures = {
            **self._kept(importer),
            "error_closed_form": round(found.error_closed, 4),
            "error": round(found.error, 4),
            "distilled_steps": steps,
        }
        write_whole(saves.parent / FIDELITY, json.dumps(figures).encode())
        write_whole(log / "grid.png", importer.grid())
        seconds = time.monotonic() - started_s
        return Trained(found.a, found.embeddings, found.probes, (), seconds, 0)

    def told(self, folder: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
        """Give the loss of fidelity, which was measured in the leased slot."""
        yield "fidelity", json.loads((folder / FIDELITY).read_bytes())

    def _dropped(self) -> Mapping[str, object]:
        """Return how much of the file lies in layers that the federation does not adapt."""
        outside = [energy for _, energy in self.file.foreign_changes()]
        inside = sum(self.file.change(layer).energy for layer in self.spec.layers)
        total = inside + sum(outside)
        share = sum(outside) / total if total else 0.0
        return {"layers": len(outside), "energy_share": round(share, 4)}

    def _kept(self, importer: "Importer") -> Mapping[str, object]:
        layers = {path: round(kept, 4) for path, kept in importer.kept_by_layer.items()}
        return {"kept": round(importer.kept, 4), "layers": layers}
