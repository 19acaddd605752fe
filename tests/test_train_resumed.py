"""`orthofed client train` after a break: killed, interrupted, without its coordinator or its lease.

The same command goes on where it stopped; no step and no byte is made twice that was kept.
"""

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from orthofed.client.happened import Happened
from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.rotation import rotate
from orthofed.client.state import BLOB, load
from orthofed.client.status import status_of
from orthofed.core.errors import (
    LeaseLost,
    Refused,
    Unreachable,
)

from .coordinator_process import COMMAND, Coordinator
from .member import Member
from .owner_daemon import TRAINING
from .training_owner import Killed, TrainingOwner, kill_at, sent_messages
from .training_owner import coordinator as coordinator  # noqa: PLC0414  # a fixture
from .training_owner import invite as invite  # noqa: PLC0414  # a fixture
from .training_owner import owner as owner  # noqa: PLC0414  # a fixture
from .training_owner import place as place  # noqa: PLC0414  # a fixture

pytestmark = pytest.mark.long


@pytest.mark.parametrize("at", ["leased", "trained", "scored", "uploading"])
def test_a_run_that_was_killed_goes_on_with_its_lease(at: str, owner: TrainingOwner) -> None:
    """Stopped at each phase: the same slot and fence, no step and no quantising done twice."""
    concept = f"{at}-d4"
    owner.on_event = kill_at(at)
    with pytest.raises(Killed):
        owner.train(owner.options(concept))
    before = load(owner.home.run(concept))
    assert before is not None
    blob = owner.home.run(concept) / BLOB
    packed = blob.read_bytes() if blob.exists() else b""
    leases = sum(str(entry["method"]).endswith("Lease") for entry in sent_messages(owner.home))
    owner.on_event = lambda _: None

    session = owner.train(owner.options(concept))

    assert session.phase == "receipted"
    assert session.request == before.request
    assert before.slot in (-1, session.slot)
    if packed:
        assert blob.read_bytes() == packed
    assert owner.steps() == 4, "a training that came to its end is not repeated"
    again = sum(str(entry["method"]).endswith("Lease") for entry in sent_messages(owner.home))
    assert again == leases + (at == "leased"), "the grant was not saved: the same lease is asked"


def started(owner: TrainingOwner, concept: str, settings: Path) -> "subprocess.Popen[str]":
    """Start the command in a process of its own, which prints JSON lines."""
    command = [*COMMAND, "client", "train", "--concept", concept, "--class-noun", "fox"]
    command += ["--images", str(owner.place / "images"), "--base", str(owner.place / "base")]
    command += ["--config", str(settings), "--home", str(owner.home.folder), "--yes", "--json"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_a_process_that_was_killed_in_training_goes_on_from_its_save(owner: TrainingOwner) -> None:
    """SIGKILL in the middle of the training; the next process begins behind its last save."""
    settings = owner.home.folder / "long.toml"
    settings.write_text(TRAINING.replace("steps = 4", "steps = 24") + "save_every_s = 0.0\n")
    with started(owner, "otter-e5", settings) as child:
        assert child.stdout is not None
        reached = 0
        for line in child.stdout:
            reached = json.loads(line).get("step", 0)
            if reached >= 5:
                child.send_signal(signal.SIGKILL)
                break
        child.communicate()
    assert 5 <= reached < 24

    owner.train(replace(owner.options("otter-e5"), config=settings))

    (trained,) = [happened for happened in owner.events if happened.name == "trained"]
    assert int(str(trained.values["resumed_at"])) >= reached - 1
    assert owner.steps() <= 24 - reached + 1


def test_ctrl_c_saves_the_step_and_says_how_to_go_on(owner: TrainingOwner) -> None:
    """SIGINT in the middle of the training: exit code 1, three parts, and not a step done twice."""
    settings = owner.home.folder / "long.toml"
    settings.write_text(TRAINING.replace("steps = 4", "steps = 24"))
    with started(owner, "stoat-e6", settings) as child:
        assert child.stdout is not None
        lines = iter(child.stdout)
        reached = next(step for line in lines if (step := json.loads(line).get("step", 0)) >= 5)
        child.send_signal(signal.SIGINT)
        said = [json.loads(line) for line in lines]
    reached = max([reached, *(line.get("step", 0) for line in said)])
    assert child.returncode == 1
    assert said[-1]["error"]["code"] == "interrupted"
    assert said[-1]["error"]["what"] == f"stopped behind step {reached} of 24"
    assert "run the same command again" in said[-1]["error"]["fix"]

    owner.train(replace(owner.options("stoat-e6"), config=settings))

    (trained,) = [happened for happened in owner.events if happened.name == "trained"]
    assert trained.values["resumed_at"] == reached
    assert owner.steps() == 24 - reached


def test_a_killed_training_finds_its_cache_and_packing_deletes_it(owner: TrainingOwner) -> None:
    """Nothing of the owner's stays in the cache; the class images do, for the next concept."""
    options = replace(owner.options("ibex-m1"), config=owner.cached())
    cache = owner.home.run("ibex-m1") / "cache"

    def stop(happened: Happened) -> None:
        if happened.name == "step" and happened.values["step"] == 2:
            raise Killed

    owner.on_event = stop
    with pytest.raises(Killed):
        owner.train(options)
    files = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    seen = list[dict[str, int]]()

    def look(happened: Happened) -> None:
        if happened.name == "packing":
            seen.append({path.name: path.stat().st_mtime_ns for path in cache.iterdir()})
        if happened.name == "egress":
            seen.append({path.name: 0 for path in cache.parent.glob("cache*")})

    owner.on_event = look
    owner.train(options)

    assert len(files) == 4
    assert seen == [files, {}]
    assert len(list(owner.home.class_images.glob("*.safetensors"))) == 1


def test_a_cache_is_kept_for_who_asks_for_it(owner: TrainingOwner) -> None:
    """`keep_cache = true`: for another training from the same images."""
    options = owner.options("ibex-m2")

    owner.train(replace(options, config=owner.cached("keep_cache = true\n")))

    assert len(list((owner.home.run("ibex-m2") / "cache").glob("*.safetensors"))) == 2


def test_a_coordinator_that_is_gone_is_said_and_nothing_is_lost(
    owner: TrainingOwner, coordinator: Coordinator
) -> None:
    """Killed while the owner trains: training ends, the upload names the problem, a rerun sends."""

    def kill(happened: Happened) -> None:
        if happened.name == "egress":
            coordinator.kill()

    owner.on_event = kill
    try:
        with pytest.raises(Unreachable, match="gave no answer for 1 s") as caught:
            owner.train(owner.options("swan-i1"), patience_s=1)
    finally:
        coordinator.start()
    assert "goes on where it stopped" in caught.value.fix
    steps = owner.steps()
    owner.on_event = lambda _: None

    assert owner.train(owner.options("swan-i1")).phase == "receipted"
    assert owner.steps() == steps


def test_a_home_with_a_new_key_leases_with_it_and_finds_the_lease_it_asked_for_before(
    owner: TrainingOwner,
) -> None:
    """A lease is granted and the answer lost; the owner rotates; the same request finds it.

    The client key is the old master's and asks through the new member key; the next concept's is
    the new master's own.
    """
    stop = KeyboardInterrupt()

    def fall(happened: Happened) -> None:
        if happened.name == "leased":
            raise stop

    owner.on_event = fall
    with pytest.raises(KeyboardInterrupt):
        owner.train(owner.options("wolf-n1"))
    asked = load(owner.home.run("wolf-n1"))
    rotate(owner.home, patience_s=20)
    owner.on_event = lambda _: None

    first = owner.train(owner.options("wolf-n1"))
    second = owner.train(owner.options("wolf-n2"))

    assert asked is not None
    assert (asked.phase, asked.epoch) == ("joined", 0)
    assert (first.phase, first.request, first.epoch) == ("receipted", asked.request, 0)
    assert (second.phase, second.epoch, second.counter) == ("receipted", 1, 0)


def test_a_lease_that_went_to_somebody_else_is_lost_and_leased_anew(
    place: Path, tmp_path: Path
) -> None:
    """One slot, a TTL of 5 s: the first owner stops, the second takes the slot and fills it.

    The first is told so (exit code 3), its work is set aside; a third finds no free slot.
    """
    with Coordinator.found(
        tmp_path / "fed", place / "base", "--rank", "2", "--capacity", "1", "--ttl", "5"
    ) as narrow:
        invite = narrow.invite(uses=3)
        owners = [TrainingOwner(place, Home.at(tmp_path / f"home{k}")) for k in range(2)]
        for owner in owners:
            join(owner.home, invite, url=None, patience_s=20)
        first, second = owners
        first.on_event = kill_at("trained")
        with pytest.raises(Killed):
            first.train(first.options("goat-k1"))
        first.on_event = lambda _: None
        time.sleep(6)

        assert second.train(second.options("duck-k2")).phase == "receipted"
        with pytest.raises(LeaseLost, match="the slot of goat-k1 was lost") as caught:
            first.train(first.options("goat-k1"))

        assert caught.value.exit_code == 3
        session = load(first.home.run("goat-k1"))
        assert session is not None
        assert session.phase == "joined"
        assert list(first.home.run("goat-k1").glob("lost-1-*/training"))
        (row,) = status_of(first.home)["concepts"]
        assert row["why"]
        with pytest.raises(Refused) as refused:
            first.train(first.options("goat-k1"))
        assert refused.value.code == "no-free-slot"


def test_a_training_that_was_lost_goes_on_where_the_same_slot_is_leased_again(
    place: Path, tmp_path: Path
) -> None:
    """One slot: somebody else took it and gave it back; its block is the same, so no step is lost.

    The contribution is of the new fence, and its figures and log begin anew with it.
    """
    with Coordinator.found(
        tmp_path / "fed", place / "base", "--rank", "2", "--capacity", "1", "--ttl", "5"
    ) as narrow:
        invite = narrow.invite(uses=2)
        first = TrainingOwner(place, Home.at(tmp_path / "home"))
        join(first.home, invite, url=None, patience_s=20)
        first.on_event = kill_at("trained")
        with pytest.raises(Killed):
            first.train(first.options("goat-k1"))
        first.on_event = lambda _: None
        time.sleep(6)
        second = Member.joined(invite)
        second.give_back(second.lease("duck-k2"))
        with pytest.raises(LeaseLost):
            first.train(first.options("goat-k1"))
        first.events.clear()

        session = first.train(first.options("goat-k1"))

        assert (session.phase, session.slot, session.fence) == ("receipted", 0, 3)
        assert first.steps() == 0, "all four steps were taken back"
        (trained,) = [each for each in first.events if each.name == "trained"]
        assert trained.values["resumed_at"] == 4
