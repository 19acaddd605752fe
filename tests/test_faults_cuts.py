"""R4: uploads whose connections are cut, reset, damaged, repeated and silenced at random bytes.

The client's own stack sends through a proxy to a real coordinator process (cut_owners.py). Every
upload ends with its receipt and the right blob; a cut costs at most the two chunks in flight; a
wrong chunk, well signed, is refused and leaves no byte; and what a power cut took from a part,
which is not synced (F3), is sent again.
"""

import os
import random
import signal
import stat
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from orthofed.client import channel
from orthofed.core.errors import Unreachable
from orthofed.core.invite import Invite
from orthofed.proto import methods, wire
from orthofed.proto.methods import CHUNK_BYTES

from .cut_owners import Owner, Owners, Toll
from .cutting_proxy import CuttingProxy, Fate, How
from .forked import Nursery, copied, founded
from .seeded import Bug
from .store_check import check

_OWNERS = 12
_SLOTS = 32
_KIB = 900
"""A contribution is four chunks, the last one short."""
_HOWS: tuple[How, ...] = ("cut", "reset", "damage", "repeat", "stall")


@pytest.fixture(scope="module")
def federation(tmp_path_factory) -> tuple[Path, str]:
    """Give a founded folder and an invite to it."""
    folder = founded(tmp_path_factory.mktemp("cuts"), slots=_SLOTS, kib=_KIB, layers=8)
    with Nursery() as nursery, nursery.answer(folder) as opened:
        invite = opened.ask("invite")
        opened.close()
    return folder, invite


def anywhere(draw: random.Random) -> Fate:
    """Return a fate in the chunks, in the handshake, or in what the coordinator says."""
    kind = draw.random()
    if kind < 0.6:
        return Fate("up", draw.randrange(4 * CHUNK_BYTES), draw.choice(_HOWS))
    if kind < 0.75:
        return Fate("up", draw.randrange(4_096), draw.choice(_HOWS))
    return Fate("down", draw.randrange(6_000), draw.choice(_HOWS))


def now_and_then_silent(draw: random.Random) -> Fate:
    """Return the same, but one in five hundred goes dead without a word."""
    fate = anywhere(draw)
    return Fate(fate.direction, fate.at, "silence") if draw.random() < 0.002 else fate


def slow(draw: random.Random) -> Fate:
    """Return a stall, so that many uploads are under way."""
    return Fate("up", draw.randrange(4 * CHUNK_BYTES), "stall")


def cut_uploads(nursery, federation, scratch, *, cuts: int, seed: int, draw=anywhere) -> Toll:
    """Cut ``cuts`` connections, over as many fresh folders as it takes."""
    toll = Toll()
    while toll.cuts < cuts and not toll.violations:
        n = toll.uploads
        folder = copied(federation[0], scratch / f"fed-{n}")
        with nursery.serve(folder) as child:
            owners = Owners(
                *(folder, federation[1], child.address, toll),
                num=_OWNERS,
                draw=draw,
                enough=lambda: toll.cuts >= cuts,
                seed=seed + n,
            )
            owners.finish()
            if child.end(signal.SIGTERM) != 0:
                toll.violations.append("the coordinator failed")
        toll.violations += check(folder, owners.receipts, settled=True).violations
    return toll


def crash_uploads(nursery, federation, scratch, *, crashes: int, seed: int) -> Toll:
    """Cut the coordinator's power under uploads, ``crashes`` times."""
    toll, draw = Toll(), random.Random(seed)  # noqa: S311  # a replayable draw
    while toll.crashes < crashes and not toll.violations:
        n = toll.crashes
        folder = copied(federation[0], scratch / f"fed-{n}")
        child = nursery.serve(folder)
        owners = Owners(
            *(folder, federation[1], child.address, toll),
            num=_OWNERS,
            draw=slow,
            enough=lambda: False,
            seed=seed + n,
        )
        while owners.active and toll.crashes < crashes and not toll.violations:
            time.sleep(draw.uniform(0.1, 0.4))
            child.end(signal.SIGKILL)
            toll.crashes += 1
            toll.torn += sum(tear(path, draw) for path in (folder / "data" / "part").iterdir())
            child = nursery.serve(folder, child.address)
        owners.finish()
        if child.end(signal.SIGTERM) != 0:
            toll.violations.append("the coordinator failed")
        toll.violations += check(folder, owners.receipts, settled=True).violations
    return toll


def tear(part: Path, draw: random.Random) -> bool:
    """Do to a part what a power cut may: bytes, length and name were not synced (F3)."""
    if not part.stat().st_mode & stat.S_IWUSR:
        return False  # on its way among the blobs, and synced for that
    size = part.stat().st_size
    match draw.choice(("bytes", "bytes", "length", "name", "nothing")):
        case "bytes":
            with part.open("r+b") as file:
                file.seek(draw.randrange(size) & ~4_095)
                file.write(bytes(4_096))
            os.truncate(part, size)
        case "length":
            os.truncate(part, draw.randrange(size))
        case "name":
            part.unlink()
        case _:
            return False
    return True


def test_uploads_that_are_cut_end_with_their_receipt(federation, tmp_path, seed):
    """The short form: 60 cuts."""
    with Nursery() as nursery:
        toll = cut_uploads(nursery, federation, tmp_path, cuts=60, seed=seed)

    assert toll.violations == []
    assert toll.cuts >= 60
    assert toll.wrong_chunks > 0


@pytest.mark.faults
def test_uploads_that_are_cut_2000_times_end_with_their_receipt(
    federation, tmp_path, seed, figures
):
    """R4's figure."""
    with Nursery() as nursery:
        toll = cut_uploads(
            nursery, federation, tmp_path, cuts=2_000, seed=seed, draw=now_and_then_silent
        )

    mean = toll.resent_bytes / max(1, toll.cuts) / CHUNK_BYTES
    figures.say(
        "R4 uploads cut at random bytes",
        uploads=toll.uploads,
        cuts=toll.cuts,
        by_kind=dict(sorted(toll.fates.items())),
        slowest_upload_s=round(toll.slowest_s),
        wrong_chunks=toll.wrong_chunks,
        chunks_sent_again_a_cut=f"{mean:.2f} (dearest upload {toll.dearest:.2f})",
        violations=len(toll.violations),
    )
    assert toll.violations == []
    assert toll.cuts >= 2_000


def test_a_line_that_goes_dead_without_a_word_is_noticed(federation, tmp_path, monkeypatch):
    """Silent at Commit, as behind a router that forgot it: a ping finds out, not the deadline.

    The shipped pings are 20 times as far apart as here; without them this takes the 60 s of Commit.
    """
    pings = ("keepalive", "ping")
    quick = [(k, v // 20 if any(p in k for p in pings) else v) for k, v in channel._OPTIONS]
    monkeypatch.setattr(channel, "_OPTIONS", quick)
    folder = copied(federation[0], tmp_path / "fed")
    with Nursery() as nursery, nursery.serve(folder) as child:
        invite = Invite.from_text(federation[1])
        owner = Owner(invite, child.address, tmp_path / "owner", draw=lambda _: None, seed=1)

        def hush(done: int, total: int) -> None:
            if done == total:
                owner.proxy.hush()

        started_s = time.monotonic()
        receipt = owner.upload(Toll(), on_bytes=hush)
        took_s = time.monotonic() - started_s
        owner.close()
        child.end(signal.SIGTERM)

    assert check(folder, [receipt]).violations == []
    assert took_s < 15


def test_a_call_whose_channel_is_closed_is_not_tried_again(federation, tmp_path):
    """Closed while it waits for an answer: it ends as cancelled, at once, and nothing follows."""
    folder, invite = copied(federation[0], tmp_path / "fed"), Invite.from_text(federation[1])
    asked: Future[wire.SpecReply] = Future()
    with (
        Nursery() as nursery,
        nursery.serve(folder) as child,
        CuttingProxy(child.address, lambda: None) as proxy,
    ):
        line = channel.Channel(proxy.address, ca=invite.ca, log=invite.log)
        line.call(methods.GET_SPEC, wire.SpecRequest(), wire.SpecReply)
        proxy.hush()

        def ask() -> None:
            try:
                asked.set_result(line.call(methods.GET_SPEC, wire.SpecRequest(), wire.SpecReply))
            except Exception as error:  # noqa: BLE001  # the test reads it
                asked.set_exception(error)

        threading.Thread(target=ask, daemon=True).start()
        time.sleep(0.3)
        line.close()
        ended = asked.exception(timeout=5)

    assert isinstance(ended, Unreachable)
    assert ended.code == "cancelled"


def test_what_a_power_cut_took_from_a_part_is_sent_again(federation, tmp_path, seed):
    """The short form: killed six times under uploads, and unsynced bytes, lengths, names gone."""
    with Nursery() as nursery:
        toll = crash_uploads(nursery, federation, tmp_path, crashes=6, seed=seed)

    assert toll.violations == []
    assert toll.torn > 0


@pytest.mark.faults
def test_what_60_power_cuts_took_from_parts_is_sent_again(federation, tmp_path, seed, figures):
    """The same, 60 times."""
    with Nursery() as nursery:
        toll = crash_uploads(nursery, federation, tmp_path, crashes=60, seed=seed)

    figures.say(
        "R4 power cut under uploads",
        uploads=toll.uploads,
        crashes=toll.crashes,
        parts_torn=toll.torn,
        violations=len(toll.violations),
    )
    assert toll.violations == []
    assert toll.torn >= 60


def test_the_wrong_chunks_find_a_chunk_that_is_not_hashed(federation, tmp_path, seed):
    """A flipped bit is taken for the chunk, or, where a cut hid that, refused at Commit."""
    environment = Bug.named("chunk-not-hashed").environment(tmp_path / "patched")

    with Nursery(environment) as nursery:
        toll = cut_uploads(nursery, federation, tmp_path, cuts=400, seed=seed)

    met = ("a wrong chunk", "an owner was refused")
    assert any(each.startswith(met) for each in toll.violations), toll.violations


def test_the_power_cuts_find_a_bitmap_that_was_kept(federation, tmp_path, seed):
    """What the coordinator believes it has is not there: the contribution is refused."""
    environment = Bug.named("bitmap-kept").environment(tmp_path / "patched")

    with Nursery(environment) as nursery:
        toll = crash_uploads(nursery, federation, tmp_path, crashes=60, seed=seed)

    assert toll.violations, f"survived {toll.crashes} power cuts"
