"""The admission worker: pending until it spoke, false probes found, a kill loses nothing."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from orthofed.admission.measure import Measurer, Subject
from orthofed.admission.worker import Worker
from orthofed.client.base import Base
from orthofed.client.captions import TEMPLATES
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.coordinator.control import ControlServer
from orthofed.core.bounds import MOST
from orthofed.core.errors import Refused
from orthofed.core.layout import ContributionLayout, pack, unpack
from orthofed.core.quantise import quantise

from .lenient import ANYTHING
from .member import Leased, Member, random_blob
from .serving import Running, founded, running

WAITS = replace(
    ANYTHING, worker=True, neutral_percent=MOST, interference_percent=MOST, hijack_percent=MOST
)


@pytest.fixture
def coordinator(tmp_path) -> Iterator[Running]:
    torch.set_num_threads(1)
    with running(founded(tmp_path, policy=WAITS, seed=bytes(32))) as started:
        control = ControlServer(started.folder.control, lambda _: started.desk)
        yield started
        control.close()


def contribute(
    coordinator: Running, name: str, *, is_true: bool = True, size: float = 0.004
) -> tuple[Member, Leased, int]:
    """Contribute random numbers, with the probes that these very numbers give, or others."""
    member = coordinator.member()
    lease = member.lease(name, (f"{name}-k7",))
    spec = member.spec()
    layout = ContributionLayout(spec, lease.vectors)
    blob = random_blob(spec, lease.vectors, seed=sum(name.encode()), size=size, embed=0.05)
    if is_true:
        tensors, triggers = unpack(layout, blob), (Trigger(f"{name}-k7", 1),)
        single = Variant.of_contribution(spec, lease.slot, triggers, tensors)
        base = Base.load(coordinator.folder.settings().base)
        with torch.no_grad(), single.applied(base) as tokens:
            true = tokens.probes(TEMPLATES)[0]
        low, high = layout.window("probe.0")
        blob = pack(layout, {**tensors, "probe.0": quantise(true, low=low, high=high)})
    leaf = member.check(member.contribute(member.pack(lease, blob=blob))).index
    return member, lease, leaf


def test_a_contribution_is_pending_until_the_worker_spoke(coordinator):
    """Not in a release before, in the next one after; its figures are the operator's to see."""
    member, lease, leaf = contribute(coordinator, "anna")
    waits = member.status(lease)
    with pytest.raises(Refused, match="nothing to release"):
        coordinator.release()

    told = Worker(coordinator.folder.root, "cpu").once()
    again = Worker(coordinator.folder.root, "cpu").once()

    assert (waits.state, "measured" in waits.why) == ("pending", True)
    assert [(each["leaf"], each["state"]) for each in told] == [(leaf, "accepted")]
    assert again == []
    assert member.status(lease).state == "accepted"
    assert coordinator.release()["concepts"] == 1
    row = coordinator.desk.ask("contributions", {})["contributions"][0]
    assert row["figures"]["probe_cosine"] > 0.9999
    assert row["figures"]["neutral_percent"] > 0


def test_a_false_probe_is_found(coordinator):
    """It would blind the gate on probes; only its owner's protection, and yet it is told."""
    member, lease, _ = contribute(coordinator, "anna", is_true=False)

    Worker(coordinator.folder.root, "cpu").once()

    told = member.status(lease)
    assert told.state == "quarantined"
    assert "a probe has cosine" in told.why


def test_what_changes_every_prompt_is_kept_out(coordinator):
    """T13: random numbers of some size, by the worker's figure alone."""
    policy = replace(WAITS, neutral_percent=3)
    coordinator.house.settings = replace(coordinator.house.settings, admission=policy)
    loud, lease, _ = contribute(coordinator, "loud", size=0.1)
    quiet, other, _ = contribute(coordinator, "quiet", size=0.0001)

    Worker(coordinator.folder.root, "cpu").once()

    assert loud.status(lease).state == "quarantined"
    assert "prompts that name no concept" in loud.status(lease).why
    assert quiet.status(other).state == "accepted"


def test_what_cancels_on_the_base_itself_is_measured(coordinator):
    """The victim's own residual with the other sign, in another slot's place of the sum: -100."""
    spec = coordinator.house.facts.spec
    blob = random_blob(spec, (1,), seed=3, size=0.02, embed=0.05)
    tensors = unpack(ContributionLayout(spec, (1,)), blob)
    opposite = {
        name: replace(each, q=-each.q) if name.startswith("a.") else each
        for name, each in tensors.items()
    }
    measurer = Measurer(Base.load(coordinator.folder.settings().base), spec)
    victim = Subject(3, 0, (Trigger("anna-k7", 1),), tensors)

    cancels = measurer.to_it(Subject(4, 0, (Trigger("evil-k7", 1),), opposite), victim)
    nothing = {n: replace(t, q=np.zeros_like(t.q)) for n, t in tensors.items() if n[0] == "a"}
    silent = measurer.to_it(Subject(5, 1, (Trigger("mute-k7", 1),), {**tensors, **nothing}), victim)

    assert cancels == pytest.approx(-100, abs=1e-3)
    assert silent == pytest.approx(0, abs=1e-3)


def test_one_that_is_all_but_silent_makes_nobody_look_loud(coordinator):
    """Of what it does itself the newcomer adds many times as much: of what is usual, little."""
    contribute(coordinator, "anna", size=0.02)
    contribute(coordinator, "bodo", size=0.02)
    silent = contribute(coordinator, "mute", size=0.00002)[2]
    Worker(coordinator.folder.root, "cpu").once()
    policy = replace(WAITS, interference_percent=25, hijack_percent=25)
    coordinator.house.settings = replace(coordinator.house.settings, admission=policy)
    member, lease, newest = contribute(coordinator, "cleo", size=0.02)
    spec = coordinator.house.facts.spec
    listed = {x["leaf"]: x for x in coordinator.desk.ask("to_measure", {})["contributions"]}
    measurer = Measurer(Base.load(coordinator.folder.settings().base), spec)

    (told,) = Worker(coordinator.folder.root, "cpu").once()
    subjects = [subject_of(coordinator, listed[leaf]) for leaf in (newest, silent)]
    of_itself = measurer.to_it(*subjects)

    assert abs(of_itself) > 25
    assert 0 < abs(told["on"][str(silent)]) < 25
    assert member.status(lease).state == "accepted", member.status(lease).why


def subject_of(coordinator: Running, listed: dict[str, Any]) -> Subject:
    """Return a contribution as the worker reads it."""
    data = coordinator.folder.blob(listed["blob"]).read_bytes()
    tensors = unpack(ContributionLayout(coordinator.house.facts.spec, (1,)), data)
    return Subject(listed["leaf"], listed["slot"], (Trigger(listed["triggers"][0], 1),), tensors)


def test_a_killed_worker_loses_nothing(coordinator):
    """SIGKILL while the base is loaded: still pending, and the next run measures it."""
    member, lease, _ = contribute(coordinator, "anna")
    command = [sys.executable, "-P", "-m", "orthofed", "admit", str(coordinator.folder.root)]
    with subprocess.Popen([*command, "--watch"], stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        assert "loading the base" in worker.stderr.readline()
        worker.send_signal(signal.SIGKILL)
    after_kill = member.status(lease).state

    Worker(coordinator.folder.root, "cpu").once()

    assert (after_kill, member.status(lease).state) == ("pending", "accepted")


def test_later_numbers_may_still_put_it_into_quarantine_but_not_what_is_approved(coordinator):
    """Without `worker = true` it is accepted at once; the worker may come later."""
    policy = replace(WAITS, worker=False)
    coordinator.house.settings = replace(coordinator.house.settings, admission=policy)
    member, lease, _ = contribute(coordinator, "anna", is_true=False)
    other, second, approved = contribute(coordinator, "bert", is_true=False)
    before = member.status(lease).state
    coordinator.desk.ask("approve", {"leaf": approved})

    Worker(coordinator.folder.root, "cpu").once()

    assert (before, member.status(lease).state) == ("accepted", "quarantined")
    assert other.status(second).state == "accepted"
