"""Carries out `orthofed client train`: from the owner's images to a receipt, resumed at any point.

    spec -> base, images, settings checked, five steps probed -> lease -> train, renewing -> pack
         -> weigh, score -> the owner sees what leaves, says yes -> upload -> receipt verified, kept

session.py decides what comes next; this module does it, with showing.py and sending.py for what
follows packing, and reports. Laws: nothing is leased before
base, images and settings are known to be good and to fit; packed bytes are read back from the disk
and never made again; a lost lease keeps the work aside and says so. Source: reliability.md 5.
"""

import contextlib
import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..core.bounds import Bounds
from ..core.errors import (
    ContributionRejected,
    InputError,
    LeaseLost,
    OrthoFedError,
)
from ..core.keys import SigningKey
from ..core.names import slug
from ..core.share import MOST_IMAGES
from ..core.spec import FederationSpec
from . import session as flow
from .asked import Asked, options_as_before
from .asked_again import AskedAgain
from .channel import Channel
from .concept_page import ConceptPage
from .correcting import Correcting
from .egress import EgressList
from .happened import Happened, Report
from .home import Home
from .home_channel import home_channel
from .interrupts import Interrupts
from .leasing import Leasing
from .lost_work import SAVES, LostWork
from .masters import Masters
from .outbox import Outbox
from .owner_scores import OwnerScores
from .packed_contribution import PackedContribution
from .packing import packed
from .pinned import remembered
from .renewals import Renewals
from .seen_heads import SeenHeads
from .sending import Sending
from .session import Session
from .showing import Showing
from .state import ASKED, load, save
from .train_options import TrainOptions
from .trust import TrustedFederation
from .wandb_run import SENT
from .withdrawal import keep_withdrawn, refuse_while_withdrawing
from .workbench import Workbench

if TYPE_CHECKING:
    from .step import Step
    from .trained import Trained

_CACHE: Final = "cache"


def train_concept(
    home: Home,
    options: TrainOptions,
    *,
    report: Report,
    ask: Callable[[EgressList], bool],
    patience_s: float,
    bench: Callable[[FederationSpec, TrainOptions], Workbench] | None = None,
    beside: Callable[[Channel], contextlib.AbstractContextManager[None]] | None = None,
) -> Session:
    """Bring one concept as far as its receipt and return its session.

    ``bench`` makes where the concept is learnt; None: from images, by training. ``beside``: what
    else uses the connection meanwhile, since no other process of this home can.

    Raises InputError: options, base or images are bad, or the owner said no. Raises LeaseLost: the
    slot went to somebody else. Raises Refused: no slot is free, or a name is taken. Raises
    Unreachable: the coordinator does not answer; run again later.
    """
    options = options.joined()
    with home.lock():
        options = options_as_before(home.run(options.concept), options)
        options.check()  # a resumed run too: what is signed at its end is known to be good
        outbox = Outbox(home.folder / "outbox.jsonl")
        with (
            home_channel(home, patience_s=patience_s, outbox=outbox) as channel,
            beside(channel) if beside else contextlib.nullcontext(),
        ):
            told = remembered(home, channel)
            federation, bounds = told.federation, told.reply.bounds
            made = (bench or Workbench.of)(federation.spec, options)
            told_to = (report, ask)
            command = _TrainCommand(
                home, options, made, channel, outbox, federation, bounds, *told_to
            )
            return command.run()


class _TrainCommand:
    """One run of the command."""

    def __init__(  # noqa: PLR0913, PLR0917  # the parts of one run, each used once
        self,
        home: Home,
        options: TrainOptions,
        bench: Workbench,
        channel: Channel,
        outbox: Outbox,
        federation: TrustedFederation,
        bounds: Bounds | None,
        report: Report,
        ask: Callable[[EgressList], bool],
    ) -> None:
        self._home = home
        self._masters = Masters(home)
        self._options = options
        self._channel = channel
        self._federation = federation
        self._spec = federation.spec
        self._report = report
        self._folder = home.run(options.concept)
        self._packed = PackedContribution(self._folder, federation.spec, federation.log)
        self._page = ConceptPage(self._folder, OwnerScores(self._folder, SeenHeads(home.folder)))
        self._bench = bench
        told = (home, self._folder, options, bench, channel, federation, report)
        self._correcting = Correcting(*told)
        self._showing = Showing(
            self._packed,
            self._page,
            bench,
            channel,
            options.base,
            bounds,
            report,
            ask,
            lambda: self._advance(self._progress + 1),
        )
        self._again = AskedAgain(*told[:4], self._correcting, report)
        self._leasing = Leasing(home, self._packed, self._correcting, options, *told[3:])
        told = (channel, outbox, federation, report, options.throttle)
        self._sending = Sending(home, self._packed, self._page, *told)
        self._renewals: Renewals | None = None
        self._progress = 0
        self._trained: Trained | None = None
        self._asked: Asked | None = None
        self._refusal: OrthoFedError | None = None

    def run(self) -> Session:
        """Take action after action until the session asks for nothing more."""
        session = self._open()
        session, actions = flow.step(session, flow.Opened())
        with contextlib.ExitStack() as stack:
            while actions:
                event = self._follow(session, actions, stack)
                if event is None:
                    break
                session, actions = flow.step(session, event)
                save(self._folder, session)
        return session

    def _follow(
        self, session: Session, actions: tuple[flow.Action, ...], stack: contextlib.ExitStack
    ) -> flow.Event | None:
        """Carry out ``actions`` and return what came of them, a refusal too."""
        event = None
        try:
            for action in actions:
                event = self._perform(session, action, stack) or event
        except LeaseLost as error:
            if session.slot < 0:
                raise
            return self._gone(session, error)
        except ContributionRejected as error:
            if session.phase not in ("packed", "approved"):
                raise
            self._refusal = error
            return flow.Rejected(error.what)
        return event

    def _open(self) -> Session:
        """Return the saved session, or a new one in phase joined."""
        options = self._options
        concept = slug(options.concept)
        triggers = tuple(slug(t) for t in options.triggers) or (concept,)
        vectors = (options.vectors,) * len(triggers)
        saved = load(self._folder)
        if saved is not None:
            refuse_while_withdrawing(saved)
        asked = (triggers, vectors, options.noun)
        saved = self._correcting.opened(saved, self._fresh_key)
        old = saved if saved is not None and saved.phase == "withdrawn" else None
        if old is not None:
            keep_withdrawn(self._folder, old)
            saved = None
        given = options.share
        if given is not None and saved is not None and saved.share != given.to_text():
            raise _other_share(concept, "it was begun without this share")
        if saved is not None and (saved.triggers, saved.vectors, saved.noun) == asked:
            return self._again.followed(saved, self._fresh_key)
        if saved is not None and (saved.phase != "joined" or saved.replaces >= 0):
            raise InputError(
                f"{concept} was begun with the triggers {', '.join(saved.triggers)}, "
                f"{saved.vectors[0]} vectors each, and the class noun {saved.noun}",
                why="they were leased and trained together",
                fix="repeat the command with those, or choose another --concept",
                code="other-triggers",
            )
        request, (counter, epoch) = secrets.token_hex(16), self._fresh_key()
        session = Session(concept, triggers, vectors, options.noun, request, counter, epoch=epoch)
        if (given := options.share) is not None:
            if given.share.log != self._federation.log:
                raise _other_share(concept, "it is of another federation")
            session = replace(session, home=given.share.slot, share=given.to_text())
        save(self._folder, session)
        if old is not None:
            self._page.scores.forget()
            shutil.rmtree(self._folder / SAVES, ignore_errors=True)
        return session

    def _perform(
        self, session: Session, action: flow.Action, stack: contextlib.ExitStack
    ) -> flow.Event | None:
        match action:
            case flow.AskLease():
                return self._leasing.ask(session, self._key(session))
            case flow.Train():
                self._renew(session, stack)
                self._note(session)
                self._train(session)
                return flow.Trained()
            case flow.Pack():
                self._renew(session, stack)
                return self._pack(session)
            case flow.ShowEgress():
                self._renew(session, stack)
                return self._showing.show(session)
            case flow.Upload():
                return self._sending.send(session, self._key(session))
            case flow.ForgetTraining():
                shutil.rmtree(self._folder / SAVES, ignore_errors=True)
                self._bench.forget(self._folder / _CACHE)
                self._correcting.tidy()
            case flow.SetAside(slot, fence):
                self._bench.forget(self._folder / _CACHE)
                (self._folder / ASKED).unlink(missing_ok=True)
                LostWork(self._folder).set_aside(slot, fence)
            case flow.Stop() if self._refusal is not None:
                raise self._refusal
            case flow.Done():
                self._sending.done(session)
        return None

    def _key(self, session: Session) -> SigningKey:
        return self._masters.of(session.epoch).client(self._federation.log, session.counter)

    def _fresh_key(self) -> tuple[int, int]:
        """Return the number of a client key that was never used, and the epoch of its master."""
        master = self._masters.newest()
        return self._masters.next_counter(master), master.epoch

    def _renew(self, session: Session, stack: contextlib.ExitStack) -> None:
        """Begin to renew the lease in the background, once."""
        if self._renewals is None:
            renewals = Renewals(
                self._channel,
                key=self._key(session),
                slot=session.slot,
                fence=session.fence,
                ttl_s=session.ttl_s,
                on_trouble=lambda error: self._say("trouble", what=error.what, code=error.code),
            )
            renewals.advance(self._progress, self._bench.settings.steps)
            self._renewals = stack.enter_context(renewals)

    def _advance(self, progress: int, total: int = 0) -> None:
        """Tell the renewals how far the work is; LeaseLost comes back through here."""
        self._progress = max(progress, self._progress)
        if self._renewals is not None:
            self._renewals.advance(self._progress, total)

    def _train(self, session: Session) -> "Trained":
        """Train, or take the finished training from its last save."""
        if self._trained is not None:
            return self._trained
        if self._bench.settings.wandb:
            self._say("sharing", what=SENT)
        with Interrupts(lambda: self._say("interrupted")) as interrupts:

            def on_step(step: "Step") -> None:
                self._advance(step.number, step.steps)
                self._say(
                    "step",
                    step=step.number,
                    steps=step.steps,
                    loss=round(step.loss, 6),
                    null_loss=round(step.null_loss, 6),
                    rate=step.rate,
                    eta_s=round(step.seconds_left, 1),
                )
                if step.held_out_loss is not None:
                    self._say("validated", step=step.number, loss=round(step.held_out_loss, 6))
                interrupts.look(step.number, step.steps)

            trained = self._bench.train(
                session,
                self._folder / SAVES,
                cache=self._folder / _CACHE,
                classes=self._home.class_images,
                log=self._page.log(session),
                on_step=on_step,
            )
        self._advance(self._bench.settings.steps)
        self._say("trained", seconds=round(trained.seconds, 1), resumed_at=trained.resumed_at)
        self._trained = trained
        self._page.write(session, state="trained, not sent")
        return trained

    def _pack(self, session: Session) -> flow.Packed:
        """Quantise once, write the blob, sign the manifest over it."""
        self._say("packing")
        asked = self._note(session)
        trained, options = self._train(session), self._options
        asked.write(self._folder)
        made = self._packed.write(
            session,
            packed(trained, self._spec),
            self._key(session),
            title=options.title,
            licence=options.published_as,
            pictures=bool(options.pictures),
            private_to=options.private_to,
            dp=trained.dp,
            earlier=self._correcting.earlier_key(session),
            images=self._num_images(session),
        )
        self._page.scores.forget()
        self._bench.forget(self._folder / _CACHE)
        self._advance(self._progress + 1)
        return made

    def _note(self, session: Session) -> Asked:
        """Return what is asked, as it was before anything was trained from it."""
        if self._asked is None:
            self._asked = Asked.of(session, self._options, self._bench)
        return self._asked

    def _num_images(self, session: Session) -> int:
        """Return how many images are signed, 0 where that is not said."""
        if not (self._options.shared or session.share or self._correcting.counts(session)):
            return 0
        return min(self._bench.num_images, MOST_IMAGES)

    def _gone(self, session: Session, error: LeaseLost) -> flow.LeaseGone:
        self._say("lost", what=error.what)
        self._refusal = LeaseLost(
            f"the slot of {session.concept} was lost: {error.what}",
            why="the lease ran out and somebody else took the slot",
            fix="run the same command again: it leases a new slot and trains for that one",
            code="lease-lost",
        )
        return flow.LeaseGone(error.what, secrets.token_hex(16), *self._fresh_key())

    def _say(self, name: str, **values: object) -> None:
        self._report(Happened(name, values))


def _other_share(concept: str, what: str) -> InputError:
    return InputError(
        f"--share does not fit {concept} in this home: {what}",
        why="a lease is asked for by one share, and trained and signed under it",
        fix="leave --share out to go on, or use a home that has not begun this concept",
        code="share-differs",
    )
