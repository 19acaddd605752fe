"""What one concept needs on this machine to be trained and scored, checked before it is used.

Base folder -> fingerprint -> model; images folder -> upright squares; TOML -> settings. Each is
loaded once, on first use, and torch with it: a command that only uploads imports this file and
still never loads torch. Law: a wrong base, image or setting is an InputError before any lease.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import InputError
from ..core.quantise import Quantised
from ..core.spec import FederationSpec
from .corrective_ground import ground
from .corrective_score import kept_before
from .loading import loading
from .session import Session
from .train_options import TrainOptions
from .wandb_run import check_wandb

if TYPE_CHECKING:
    from ..core.dp_claim import DpClaim
    from .acceptance import Acceptance
    from .base import Base
    from .dataset import ConceptImages
    from .pace import Pace
    from .probe import Probed
    from .score import Score, Scorer
    from .step import Step
    from .trained import Trained
    from .training_settings import TrainingSettings

# torch costs seconds to import, so every import of it stands in the function that needs it.
# ruff: noqa: PLC0415


@dataclass(frozen=True)  # no slots: cached_property keeps its values in the instance
class Workbench:
    """The base, the images and the settings of one concept."""

    spec: FederationSpec
    base_folder: Path
    images_folder: Path
    noun: str
    triggers: tuple[str, ...] = ()
    config: Path | None = None
    preset: str | None = None
    steps: int | None = None
    seed: int | None = None
    device: str | None = None
    dp_epsilon: float | None = None
    dp_mode: str | None = None
    kept: Mapping[str, object] | None = None  # settings in the place of the defaults
    seen: Mapping[str, object] = field(default_factory=dict[str, object])  # settings of a training
    _probes: "list[Probed]" = field(default_factory=list)  # of this process

    @staticmethod
    def of(spec: FederationSpec, options: TrainOptions) -> "Workbench":
        """Return the bench of what the owner asks for."""
        return Workbench(
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
            dp_epsilon=options.dp_epsilon,
            dp_mode=options.dp_mode,
            kept=options.kept,
        )

    @property
    def has_images(self) -> bool:
        """Whether there are images to score what was learnt on."""
        return True

    def before_lease(
        self, session: Session, home: Path
    ) -> "Iterator[tuple[str, Mapping[str, object]]]":
        """Check all at home and do five steps; give what happens, each by its name.

        Raises OrthoFedError: something is bad, or does not fit.
        """
        yield "checking", {"what": "base, images and settings"}
        self.check(home)
        if self.images.duplicates:
            yield "duplicates", {"pairs": [list(pair) for pair in self.images.duplicates]}
        ratio = self.noise_to_signal(session)
        if ratio is not None and (claim := self.dp) is not None:
            yield "dp", {"noise_to_signal": round(ratio, 3), **claim.body()}
        yield "checking", {"what": "time and memory of a step"}
        probed = self.probe(session)
        facts = {
            "seconds_per_step": round(probed.seconds_per_step, 4),
            "total_s": round(probed.total_s, 1),
            "hold_s": self.spec.limits.hold_s,
            "peak_bytes": probed.peak_bytes,
            "free_bytes": probed.free_bytes,
        }
        yield "probed", facts
        if session.replaces >= 0:
            yield "checking", {"what": f"what release {session.release} keeps of it"}
            run = home / "runs" / session.concept
            yield "before", kept_before(self.spec, session, run, self._score_as_merged)

    def told(self, folder: Path) -> "Iterator[tuple[str, Mapping[str, object]]]":  # noqa: ARG002  # an import has some
        """Give what else the owner is to know before the yes, from the concept's ``folder``."""
        yield from ()

    def decides(self, *, missing: bool = False) -> dict[str, object]:
        """Return what decides the training, by its name; what is read from files by SHA-256.

        ``missing``: files may be gone, and are left out then. Raises InputError: a setting is bad,
        or files are gone.
        """
        found: dict[str, object] = {**self.settings.decisive}
        for name, digest in self._sources().items():
            try:
                found[name] = digest()
            except (InputError, OSError):
                if not missing:
                    raise
        return found

    def _sources(self) -> dict[str, Callable[[], object]]:
        """Return what else than settings is trained from, each with what makes its digest."""
        from .images_digest import images_digest

        sources: dict[str, Callable[[], object]] = {
            "images": lambda: images_digest(self.images_folder)
        }
        if self.settings.prior_weight and self.settings.prior_folder:
            folder = Path(self.settings.prior_folder)
            sources["class images"] = lambda: images_digest(folder)
        return sources

    @cached_property
    def settings(self) -> "TrainingSettings":
        """The training settings: the preset's, then the file's, then the options'.

        Of a training that was ``seen`` it takes how the images were read. Raises InputError: the
        file or a value is bad.
        """
        from .training_settings import TrainingSettings

        settings = TrainingSettings.read(self.config, preset=self.preset, kept=self.kept)
        settings = settings.reading_as(self.seen)
        given = {
            "steps": self.steps,
            "seed": self.seed,
            "device": self.device,
            "dp_epsilon": self.dp_epsilon,
            "dp_mode": self.dp_mode,
        }
        settings = replace(settings, **{k: v for k, v in given.items() if v is not None})
        if self.dp_mode is not None and not settings.dp_epsilon:
            raise InputError(
                f"--dp-mode {self.dp_mode} without --dp",
                why="without an epsilon no noise is added",
                fix="add --dp eps=8, or leave --dp-mode away",
                code="bad-dp",
            )
        if not settings.is_mean:
            return settings
        steps = self.steps or settings.dp_mean_steps
        return replace(settings, steps=steps, null_images=0, prior_weight=0.0)

    @cached_property
    def base(self) -> "Base":
        """The loaded base, which is the federation's, where the settings want it.

        Raises InputError: the folder is no pipeline, or another base; the device is not there.
        """
        with loading():
            from .base import Base
            from .placement import Machine, Placement

        settings = self.settings
        device, precision, machine = settings.device, settings.precision, Machine.here()
        ranks = range(settings.processes)  # every GPU is there, or nothing is loaded
        places = [Placement.of(device, precision, machine, rank=rank) for rank in ranks]
        return Base.load(self.base_folder, spec=self.spec, placement=places[0])

    @cached_property
    def images(self) -> "ConceptImages":
        """The concept's images.

        Raises InputError: none, too few, or a broken one.
        """
        from .dataset import ConceptImages

        folder = self.settings.prior_folder
        return ConceptImages.load(
            self.images_folder,
            size=self.base.image_size,
            step=self.base.image_step if self.settings.buckets else 0,
            noun=self.noun,
            triggers=self.triggers,
            templates=self.settings.templates,
            class_folder=Path(folder) if self.settings.prior_weight and folder else None,
            apart=self.settings.dp_epsilon > 0,
        )

    @property
    def num_images(self) -> int:
        """How many images it is trained on."""
        return len(self.images.train)

    @cached_property
    def dp(self) -> "DpClaim | None":
        """What the training will claim of differential privacy, if it is asked for.

        Raises InputError: a setting would break it, or dp-accounting is not installed.
        """
        if not self.settings.dp_epsilon:
            return None
        from .dp_plan import planned

        return planned(self.settings, len(self.images.train))

    def noise_to_signal(self, session: Session) -> float | None:
        """Return how much more noise than signal will leave, at best; None without privacy.

        Raises InputError: so much that the concept would not show.
        """
        if self.dp is None:
            return None
        from ..core.layout import ContributionLayout
        from .dp_plan import check_floor, num_sent

        layout = ContributionLayout(self.spec, session.vectors)
        return check_floor(self.dp, num_sent(layout, self.dp.mechanism))

    @cached_property
    def scorer(self) -> "Scorer":
        """The held-out images with their fixed draws."""
        from .score import Scorer

        return Scorer.on(self.base, self.images.held_out)

    def check(self, home: Path) -> None:
        """Load and check everything, cheapest first; what is cached on disk fits into ``home``.

        Raises OrthoFedError: the disk is too small.
        """
        from .cache_size import CacheSize

        if self.settings.wandb:
            check_wandb()
        CacheSize.of(self.base, self.spec, self.images, self.settings).check(home, self.settings)

    def probe(self, session: Session) -> "Probed":
        """Return what the training will cost on this machine.

        Raises OrthoFedError: it does not fit, or takes longer than a lease may be held.
        """
        probed = self._measured(session)
        probed.check(self.settings, hold_s=self.spec.limits.hold_s)
        return probed

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
        """Return the trained concept; goes on from the newest save in the folder ``saves``.

        ``cache`` and ``classes`` are the folders of caches.py. ``on_step`` is called behind each
        step, after it was noted in the folder ``log``. Raises OrthoFedError: the memory is not
        enough, the training crawls, or another of its processes is gone.
        """
        from .out_of_memory import told_when_out_of_memory
        from .training_run import TrainingRun

        self.noise_to_signal(session)  # noise may be asked for first in a slot that is leased
        if not self.settings.on_disk:
            self.forget(cache)  # of an earlier try
        with (
            ground(self.base, self.spec, session, session.as_triggers(), saves.parent) as start,
            told_when_out_of_memory(self.settings),
        ):
            run = TrainingRun(
                spec=self.spec,
                base_folder=self.base_folder,
                base=self.base,
                images=self.images,
                noun=self.noun,
                settings=self.settings,
                dp=self.dp,
                session=session,
                start=start,
                pace=self._pace(session, saves),
            )
            return run.train(saves, cache=cache, classes=classes, log=log, on_step=on_step)

    def forget(self, cache: Path) -> None:
        """Delete the run's cache, unless the settings keep it."""
        if cache.exists() and not self.settings.keep_cache:
            shutil.rmtree(cache)

    def accept(
        self, session: Session, tensors: Mapping[str, Quantised], *, newest: Path | None
    ) -> "Acceptance":
        """Return how well the packed contribution does, alone and with the newest release."""
        from .acceptance import acceptance
        from .memorisation import planned_draws

        return acceptance(
            self.scorer,
            self.spec,
            session.block,
            session.as_triggers(),
            self.noun,
            tensors,
            newest=newest,
            without=session.concept if session.replaces >= 0 else None,
            trained_on=self.images.train,
            num_draws=planned_draws(self.settings),
        )

    def score(
        self,
        session: Session,
        tensors: Mapping[str, Quantised],
        *,
        release: Path,
        lambdas: tuple[float, ...],
        as_merged: bool = False,
        fused: Path | None = None,
    ) -> "Score":
        """Return the losses of base, contribution and release, and of what was fused of that."""
        from .score import score

        names = session.as_triggers()
        return score(
            self.scorer,
            self.spec,
            session.block,
            names,
            self.noun,
            tensors,
            release=release,
            lambdas=lambdas,
            as_merged=as_merged,
            fused=fused,
        )

    def _score_as_merged(
        self, session: Session, tensors: Mapping[str, Quantised], release: Path
    ) -> "Score":
        return self.score(session, tensors, release=release, lambdas=(), as_merged=True)

    def _measured(self, session: Session) -> "Probed":
        from .probe import probe

        names = session.as_triggers()
        told = (self.base, self.spec, names, self.noun, self.images, self.settings)
        probed = probe(*told, self.dp)
        self._probes.append(probed)
        return probed

    def _pace(self, session: Session, saves: Path) -> "Pace":
        """Return the watch over the speed, measured here or before, anew where neither counts."""
        from .pace import KeptPace, Pace

        kept = KeptPace.beside(saves, self.settings, self.base.device)
        step_s = None if self._probes else kept.read()
        if step_s is None:
            probed = self._probes[-1] if self._probes else self._measured(session)
            step_s = probed.seconds_per_step
            kept.write(step_s)
        return Pace(step_s, self.settings, self.base.device)
