"""What becomes of packed work when the command that made it is given again with other words.

    nothing was approved    trained again, or packed again where only what is signed differs
    approved, or sent       refused: the difference is named, and the way to go on

Laws: work that was asked otherwise is never shown as if it were what is asked now; nothing is set
aside before all that could refuse the new training has been asked; what was made stays at home.
Left to others: what a difference is (asked.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.errors import InputError
from .asked import SENT, Asked
from .correcting import Correcting
from .happened import Happened, Report
from .home import Home
from .lost_work import LostWork
from .session import Session
from .state import save
from .train_options import TrainOptions
from .workbench import Workbench


@dataclass(frozen=True, slots=True)
class AskedAgain:
    """One concept's command beside the one before."""

    home: Home
    folder: Path
    options: TrainOptions
    bench: Workbench
    correcting: Correcting
    report: Report

    def followed(self, session: Session, fresh_key: Callable[[], tuple[int, int]]) -> Session:
        """Return the session to go on with: another one where something is asked otherwise.

        Raises InputError: it was approved or sent as it is; or what is asked now cannot be taught.
        """
        before = Asked.kept(self.folder, session)
        if before is None or (session.phase == "receipted" and self.options.corrective):
            return session
        now = Asked.of(session, self.options, self.bench)
        taught, signed = before.taught_otherwise(now), before.signed_otherwise(now)
        if session.phase == "approved" and now.folder == before.folder:
            taught = [each for each in taught if each != "other images"]  # the upload goes on
        if not taught and not signed:
            return session
        if session.phase in SENT:
            raise _stands(session, before, now, [*taught, *signed])
        said = ", ".join([*taught, *signed])
        self.report(Happened("again", {"what": said, "trains": bool(taught)}))
        if not taught:
            phase = "trained" if session.phase == "packed" else session.phase
            return self._saved(replace(session, phase=phase, blob="", document=""), now)
        again = replace(session, phase="leased", blob="", document="")
        self.correcting.opened(again, fresh_key)  # what a round reads is there
        for name, values in self.bench.before_lease(again, self.home.folder):
            self.report(Happened(name, values))
        self._saved(again, now)
        LostWork(self.folder).set_aside(session.slot, session.fence)
        return again

    def _saved(self, session: Session, now: Asked) -> Session:
        """Save the session first: a record is never beside bytes that were asked otherwise."""
        save(self.folder, session)
        now.write(self.folder)
        return session


def _stands(session: Session, before: Asked, now: Asked, said: list[str]) -> InputError:
    name, was, asked = session.concept, before.signed["readers"], now.signed["readers"]
    if session.phase == "receipted":
        return InputError(
            f"{name} was sent, and this asks for {', '.join(said)}",
            why="what was sent cannot be changed",
            fix=f"run orthofed client withdraw {name} and then this command: it is trained anew; to"
            " leave it as it is, leave those options away, or train it further among the others"
            " with --corrective",
            code="asked-otherwise",
        )
    why = "some of it may have been sent"
    fix = (
        "leave those options away to send what you approved; or free the slot with"
        f" orthofed client give-back {name} and run this command again"
    )
    if was != asked:
        what = f"{name} was approved for {len(was) or 'all'} readers, asked are {len(asked)}"
        return InputError(f"{what} recipients", why=why, fix=fix, code="other-recipients")
    what = f"{name} was approved, and this asks for {', '.join(said)}"
    return InputError(what, why=why, fix=fix, code="asked-otherwise")
