"""Measures the contributions that wait on the base itself, and tells the coordinator the numbers.

Laws: it reads blobs and writes nothing; every contribution is one answer over the control socket,
so a kill between two of them loses nothing, and the next run asks what is left. Numbers come first:
then it draws what is in quarantine (drawing.py), unless the operator does not want pictures. The
base must be the spec's. Torch is loaded in this process only, and only when there is work.
"""

import base64
import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..client.loading import loading
from ..coordinator.command_line import desk_of, say
from ..coordinator.control import ControlClient
from ..coordinator.folder import DataFolder
from ..core.errors import Refused, Unreachable, VerificationFailed
from ..core.layout import ContributionLayout, unpack
from ..core.spec import FederationSpec

if TYPE_CHECKING:
    from ..client.base import Base
    from .measure import Measurer, Subject

_COUNTED: Final = ("pending", "accepted")


class Worker:
    """One federation's base, loaded when it is first needed."""

    def __init__(self, directory: Path, device: str, *, is_beside: bool = False) -> None:
        """``is_beside``: ask a running coordinator only, and wait for it when it is away."""
        self._folder = DataFolder.open(directory)
        self._device, self._is_beside = device, is_beside
        self._base: Base | None = None
        self._measurer: Measurer | None = None

    def once(self) -> list[dict[str, Any]]:
        """Measure what has no numbers yet, the oldest first."""
        done: list[dict[str, Any]] = []
        try:
            listed = self._ask("to_measure", {})["contributions"]
            done.extend(self._measure(each, listed) for each in listed if not each["measured"])
            self._draw_all()
        except Unreachable as error:
            if not self._is_beside:
                raise
            say(error.what)
        except FileNotFoundError:  # one was withdrawn meanwhile; the next look does not list it
            say("a contribution went away while it was measured")
        return done

    def _measure(self, each: dict[str, Any], listed: list[dict[str, Any]]) -> dict[str, Any]:
        started_s = time.monotonic()
        own = self._subject(each)
        others = [
            (other["state"], self._subject(other))
            for other in listed
            if other["first"] != each["first"] and other["state"] in _COUNTED
        ]
        measurer = self._loaded()
        accepted = [subject for state, subject in others if state == "accepted"]
        floor = measurer.floor([own, *accepted]) if others else 0.0
        told = {
            "leaf": each["leaf"],
            "probe_cosine": measurer.probes(own),
            "neutral_percent": measurer.neutral(own),
            "on": {str(x.leaf): measurer.to_it(own, x, floor=floor) for _, x in others},
        }
        state = self._ask("measured", told)["state"]
        seconds = time.monotonic() - started_s
        say(f"{each['concept']} (contribution {each['leaf']}): {state}, {seconds:.1f} s")
        return {**told, "state": state}

    def _draw_all(self) -> None:
        """Draw what is in quarantine and was not drawn yet, the oldest first."""
        found = self._ask("to_measure", {})
        if not found["pictures"]:
            return
        for each in found["contributions"]:
            if each["state"] == "quarantined" and not each["pictured"]:
                try:
                    self._draw(each, found["release"], found["released"])
                except Refused as error:
                    if error.code != "no-room":
                        raise
                    say(f"{error.what}: the numbers are there without pictures")
                    return

    def _draw(self, each: dict[str, Any], release: int, released: list[dict[str, Any]]) -> None:
        from .drawing import Held, pictures

        started_s = time.monotonic()
        held = [
            Held(self._subject(other), int(other["lambda_1024"]))
            for other in released
            if other["first"] != each["first"]
        ]
        files = pictures(
            self._loaded_base(), self._spec(), self._subject(each), held if release else None
        )
        for name, data in files.items():  # one by one: a line of the socket has a bound
            told = {"leaf": each["leaf"], "release": release}
            told["pictures"] = {name: base64.b64encode(data).decode("ascii")}
            self._ask("evidence", told)
        seconds = time.monotonic() - started_s
        name = f"{each['concept']} (contribution {each['leaf']})"
        say(f"{name}: {len(files)} pictures, {seconds:.1f} s")

    def _ask(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        if self._is_beside:
            return ControlClient(self._folder.control).ask(op, args)
        with desk_of(self._folder.root) as (_, desk):
            return desk.ask(op, args)

    def _subject(self, each: dict[str, Any]) -> "Subject":
        from ..client.trigger import Trigger
        from .measure import Subject

        data = self._folder.blob(each["blob"]).read_bytes()
        if hashlib.sha256(data).hexdigest() != each["blob"]:
            raise VerificationFailed(
                f"the blob of contribution {each['leaf']} is damaged",
                why="its bytes are not those that the client signed",
                fix="run orthofed doctor, then restore it from the backup",
                code="blob-damaged",
            )
        vectors = tuple(int(count) for count in each["vectors"])
        tensors = unpack(ContributionLayout(self._spec(), vectors), data)
        pairs = zip(each["triggers"], vectors, strict=True)
        return Subject(each["leaf"], each["slot"], tuple(Trigger(*pair) for pair in pairs), tensors)

    def _loaded(self) -> "Measurer":
        if self._measurer is None:
            with loading():
                from .measure import Measurer

            self._measurer = Measurer(self._loaded_base(), self._spec())
        return self._measurer

    def _loaded_base(self) -> "Base":
        if self._base is None:
            with loading():
                from ..client.base import Base
                from ..client.placement import Machine, Placement

            say("loading the base model")
            placement = Placement.of(self._device, "fp32", Machine.here())
            base = self._folder.settings().base
            self._base = Base.load(base, spec=self._spec(), placement=placement)
        return self._base

    def _spec(self) -> FederationSpec:
        return FederationSpec.from_bytes((self._folder.public / "spec.json").read_bytes())
