"""`orthofed pull --concept ... --weight ...`: some concepts of a release, at weights of one's own.

    1  manifest, ledger; the chosen blobs, one small published file           pull.py
    2  the files that they give, by the core writers                          composer.py
    3  trust/ and composition.json, for `orthofed verify`                     verify_composed.py

Law: exact: integers of the contributors in, one rounding out; the same choice gives the same bytes
on every machine, and all concepts at the release's weights give the release's own. Everything lies
in ``.compose`` inside the folder until it is whole; a run that was cut goes on with its release,
one that was refused with any.
"""

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..core.base_files import BaseFiles
from ..core.errors import InputError
from ..core.kinds import WHOLE
from ..core.release import FileEntry
from .choice import PROGRAMS, kinds_for
from .composer import Composer, OnBytes
from .composition import (
    COMPOSED,
    COMPOSITION,
    LIKE,
    MANIFEST_OF,
    Composition,
    chosen,
    prediction_of,
    smallest_vectors,
)
from .contributions import FOLDER, Contributions, blob_name
from .home import PUBLIC, disk_full, sync_folder, write_whole
from .make_derived import usable_base
from .open_part import open_shares
from .origin import Origin
from .pull import Begun, Pull
from .seen_heads import SeenHeads

WORK: Final = ".compose"


@dataclass(frozen=True, slots=True)
class Composed:
    """What was written: the release it is of, each concept's weight in 1/1024, files, bytes."""

    log: str
    fed: str
    n: int
    weights: Mapping[str, int]
    num_files: int
    num_bytes: int
    fetched_bytes: int


@dataclass(frozen=True, slots=True)
class Compose:
    """One composition on its way into ``out``."""

    origin: Origin
    log: str
    out: Path
    seen: SeenHeads
    on_bytes: OnBytes = lambda *_: None
    mirrors: tuple[Origin, ...] = ()
    base: BaseFiles | None = None

    def run(
        self,
        n: int,
        concepts: Sequence[str],
        weights: Mapping[str, int],
        programs: Collection[str] = (),
    ) -> Composed:
        """Compose ``concepts`` of release ``n``, 0 for the newest; none named: all of them.

        ``programs``: only the files for these (choice.py); whole models need ``base``.
        Raises InputError: a name that the release does not hold, a folder with something else, no
        base where one is needed. Raises Refused, VerificationFailed, OrthoFedError: as a pull.
        """
        kinds = kinds_for(programs, default=COMPOSED)
        self._claim()
        work = self.out / WORK
        pull = Pull(self.origin, self.log, work, self.seen, self.on_bytes, mirrors=self.mirrors)
        begun = pull.begin(n)
        with pull.let_go_when_refused():
            return self._composed(pull, begun, concepts, weights, programs, kinds)

    def _composed(  # what is composed, and of what
        self,
        pull: Pull,
        begun: Begun,
        concepts: Sequence[str],
        weights: Mapping[str, int],
        programs: Collection[str],
        kinds: frozenset[str],
    ) -> Composed:
        work, made = self.out / WORK, self.out / WORK / "made"
        release, manifest = begun.release, begun.release.manifest
        usable_base(kinds, self.base, release.federation.spec)
        self._check_room(kinds)
        contributions = Contributions(work, release)
        taken = chosen(contributions, concepts, weights)
        shares = tuple(sorted(part for parts in taken.values() for part in parts))
        leaves = [leaf for leaf, _ in shares]
        pull.fetch_contributions(release, leaves)
        like = smallest_vectors(manifest)
        pull.fetch(release, [like])
        sorted_programs = tuple(sorted(set(programs)))
        made_of = Composition(self.log, manifest.n, shares, like.name, sorted_programs)
        shutil.rmtree(made, ignore_errors=True)
        with open_shares(contributions, shares) as merge:
            entries = Composer(
                merge,
                manifest.n,
                prediction_of(work / like.name),
                contributions.withdrawn_slots(),
                mixed=made_of.is_mixed(manifest),
                base=self.base if kinds & WHOLE else None,
                kinds=kinds,
            ).write(made, self.on_bytes)
        _check_made(programs, entries)
        pull.write_trust(made, begun)
        write_whole(made / MANIFEST_OF, begun.document, mode=PUBLIC)
        shutil.copyfile(work / like.name, made / LIKE)
        (made / FOLDER).mkdir()
        for leaf in leaves:
            shutil.copyfile(work / blob_name(leaf), made / blob_name(leaf))
        self._finish(made, made_of)
        blobs = [contributions.manifest(leaf).bytes for leaf in leaves]
        return Composed(
            log=self.log,
            fed=manifest.fed,
            n=manifest.n,
            weights={name: sum(share for _, share in parts) for name, parts in taken.items()},
            num_files=len(entries),
            num_bytes=sum(entry.bytes for entry in entries),
            fetched_bytes=sum(blobs) + like.bytes,
        )

    def _claim(self) -> None:
        """Take the folder: new, empty, or begun by a composition."""
        taken = self.out.is_symlink() or (self.out.exists() and not self.out.is_dir())
        if not taken and self.out.is_dir():
            names = {path.name for path in self.out.iterdir()}
            taken = bool(names) and WORK not in names
        if taken:
            raise InputError(
                f"{self.out} holds something else",
                why="a composed folder holds one composition and nothing else",
                fix="give a new or empty folder with -o",
                code="folder-taken",
            )

    def _check_room(self, kinds: Collection[str]) -> None:
        """Refuse before the work what cannot be held: a whole model is as large as its base."""
        if self.base is None:
            return
        wanted = len(WHOLE.intersection(kinds)) * sum(self.base.sizes.values())
        if wanted > shutil.disk_usage(self.out).free:
            raise disk_full(self.out, wanted=wanted)

    def _finish(self, made: Path, made_of: Composition) -> None:
        """Give the files their place, the record last."""
        for path in sorted(made.iterdir()):
            target = self.out / path.name
            if target.is_dir():  # of a run that was cut here
                shutil.rmtree(target)
            path.replace(target)
        write_whole(self.out / COMPOSITION, made_of.to_bytes(), mode=PUBLIC)
        sync_folder(self.out)
        shutil.rmtree(self.out / WORK)


def _check_made(programs: Collection[str], entries: Sequence[FileEntry]) -> None:
    """Refuse a composition that has nothing for one of ``programs``."""
    for program in programs:
        folder = PROGRAMS[program][0]
        if not any(entry.name.startswith(folder) for entry in entries):
            raise InputError(
                f"there are no files for {program} of this federation",
                why="its base has no single file, or its words are layer-wise",
                fix="leave that --as out",
                code="not-published",
            )
