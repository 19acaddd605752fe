"""What `orthofed client train --corrective` does besides a training: which round, and against what.

    receipted, with a newer release that holds it -> a round begins
    a round under way                             -> it goes on
    a round against this very release, done       -> nothing is to be done

Laws: everything that could refuse a round is asked before a slot is leased; against one release a
concept is corrected once, so the same command again costs nothing; where the coordinator says that
the contribution does not stand, the round is given up and what was there is there again. A
blob that this home lost comes from the release, by its signed hash. Not here: the files
(correction.py), the training (corrective_ground.py).
"""

import contextlib
import secrets
import shutil
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.contribution import ContributionManifest
from ..core.document import parse
from ..core.errors import InputError, Refused
from ..core.keys import SigningKey
from ..core.release import ReleaseManifest
from .channel import Channel
from .contributions import blob_name
from .correction import AGAINST, begin, give_up, is_unsent, replaced
from .happened import Happened, Report
from .home import Home, write_whole
from .masters import Masters
from .owner_scores import fetch_scored
from .seen_heads import SeenHeads
from .session import Session
from .state import BLOB, MANIFEST, RECEIPT, save
from .train_options import TrainOptions
from .trust import TrustedFederation, trusted_contribution
from .workbench import Workbench


@dataclass(frozen=True, slots=True)
class Correcting:
    """The rounds of one concept."""

    home: Home
    folder: Path
    options: TrainOptions
    bench: Workbench
    channel: Channel
    federation: TrustedFederation
    report: Report

    def opened(
        self, saved: Session | None, fresh_key: Callable[[], tuple[int, int]]
    ) -> Session | None:
        """Return the session to go on with: that of a round, where one is asked for or under way.

        Raises InputError: there is nothing to go on from, or the release does not hold it.
        """
        if self.options.corrective and (saved is None or not is_unsent(saved)):
            saved = self._begun(saved, fresh_key)
        elif saved is not None and is_unsent(saved) and self.bench.settings.dp_epsilon:
            what = "noise in a round: the claim is of all that was sent"
            raise _not_correctable(what, fix="leave it away; or withdraw it and train it anew")
        if saved is not None and saved.replaces >= 0 and saved.phase in ("joined", "leased"):
            self._fetch(saved.release)
        return saved

    def earlier_key(self, session: Session) -> SigningKey | None:
        """Return the client key of what a round replaces, None for another training."""
        if session.replaces < 0:
            return None
        _, old = replaced(self.folder, session)
        return Masters(self.home).of(old.epoch).client(self.federation.log, old.counter)

    def counts(self, session: Session) -> bool:
        """Return whether what a round replaces says of how many images it is made."""
        if session.replaces < 0:
            return False
        aside, _ = replaced(self.folder, session)
        signed = parse((aside / MANIFEST).read_bytes(), kind="contribution")
        return ContributionManifest.from_document(signed).count > 0

    @contextlib.contextmanager
    def given_up_if_refused(self, session: Session) -> Generator[None]:
        """Give the round up when the coordinator says inside that there is nothing to correct."""
        try:
            yield
        except Refused as error:
            if error.code == "not-correctable" and session.replaces >= 0:
                give_up(self.folder, session)
            raise

    def tidy(self) -> None:
        """Remove what was read of the release."""
        shutil.rmtree(self.folder / AGAINST, ignore_errors=True)

    def _begun(self, saved: Session | None, fresh_key: Callable[[], tuple[int, int]]) -> Session:
        if saved is None or saved.phase != "receipted":
            raise _not_correctable(
                f"{self.options.concept} is not with the federation",
                fix="run the command without --corrective first",
            )
        receipt = (self.folder / RECEIPT).read_bytes()
        parsed, manifest, _ = trusted_contribution(self.federation, receipt)
        settings = self.bench.settings
        if manifest.form != "public" or self.options.private_to:
            what = "a private contribution, which no release holds"
            raise _not_correctable(what, fix="withdraw it and train it anew")
        if manifest.dp is not None or settings.dp_epsilon:
            what = "a concept that claims differential privacy: the claim is of all that was sent"
            raise _not_correctable(what, fix="withdraw it and train it anew")
        if settings.processes > 1:
            what = f"a round in {settings.processes} processes: each would load the bare base"
            raise _not_correctable(what, fix="set processes = 1 in the training settings")
        # A home that was found again with its seed alone has no blob.
        lost = not saved.blob
        release = self._fetch(self.options.release, leaf=parsed.index if lost else -1)
        if saved.release >= release.n:
            return saved
        if parsed.index not in {leaf for leaf, _ in release.contributions}:
            raise _not_correctable(
                f"release {release.n}, which does not hold contribution {parsed.index}",
                fix="wait for a release that does",
            )
        if lost:
            saved = self._found_again(saved, manifest, parsed.index)
        names = (saved.concept, saved.triggers, saved.vectors, saved.noun)
        counter, epoch = fresh_key()
        fresh = Session(*names, secrets.token_hex(16), counter, epoch=epoch)
        fresh = replace(fresh, home=saved.home, share=saved.share)
        return begin(self.folder, saved, leaf=parsed.index, release=release.n, fresh=fresh)

    def _found_again(self, saved: Session, signed: ContributionManifest, leaf: int) -> Session:
        """Keep the blob that came with the release, by the hash that the owner once signed."""
        data = (self.folder / AGAINST / blob_name(leaf)).read_bytes()
        write_whole(self.folder / BLOB, data)
        found = replace(saved, blob=signed.blob, noun=saved.noun or self.options.noun)
        save(self.folder, found)
        return found

    def _fetch(self, n: int, *, leaf: int = -1) -> ReleaseManifest:
        """Fetch what a round reads of release ``n``, 0 for the newest; return its manifest.

        ``leaf``: with the blob of this contribution.
        """
        self.report(Happened("checking", {"what": f"release {n}" if n else "the newest release"}))
        seen = SeenHeads(self.home.folder)
        place = self.folder / AGAINST
        return fetch_scored(self.channel, self.federation.log, place, seen, n, leaf=leaf)


def _not_correctable(what: str, *, fix: str) -> InputError:
    return InputError(
        f"there is nothing to correct: {what}",
        why="a corrective round trains a public contribution further, against a release with it",
        fix=fix,
        code="nothing-to-correct",
    )
