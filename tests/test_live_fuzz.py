"""R8: malformed messages against a real coordinator process: it stays, and says what is wrong.

Short form: 2,000 messages. Long form (`make faults`): 50,000, with the answers of each call, and
the memory under the fuzz and under the slowest senders that are borne.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from orthofed.core.invite import Invite
from orthofed.proto import methods

from . import live_fuzz, raw_fuzz
from .coordinator_process import Coordinator, run, wide_base
from .live_fuzz import LiveFuzz, Tally
from .member import Member
from .raw_fuzz import RawTally
from .raw_http2 import Raw, hold_bodies
from .seeded import Bug
from .serving import founded, running

SEED = 20_261_125
MOST_GROWTH_MB = 32
SLOW_S = 25.0


@dataclass(frozen=True)
class Figures:
    """What was answered, and the memory before, after and at the most."""

    live: Tally
    raw: RawTally
    before_mb: float
    after_mb: float
    peak_mb: float

    def __str__(self) -> str:
        memory = (
            f"memory {self.before_mb:.1f} MB, then {self.after_mb:.1f}, at most {self.peak_mb:.1f}"
        )
        told = f"{self.live.num} malformed messages, seed {SEED}; {memory}"
        return f"{told}\n{self.live.table()}\n{self.raw.table()}"


def fuzzed(scratch: Path, *, messages: int, raw: int, owners: int, leases: int) -> Figures:
    """Fuzz a coordinator; assert that it stays the same process and serves a good client."""
    base = wide_base(scratch / "base")
    with Coordinator.found(scratch / "fed", base, "--rank", "5") as coordinator:
        pid = coordinator.pid
        crowd = LiveFuzz(coordinator.invite(uses=10_000), seed=SEED)
        crowd.prepare(owners=owners, leases=leases)
        coordinator.release()
        crowd.run(messages // 20)  # whatever is kept once is kept now
        before = coordinator.memory_mb()
        coordinator.forget_peak()

        crowd.run(messages - messages // 20)
        invite = crowd.invite
        raws = raw_fuzz.run(invite, raw, seed=SEED)
        crowd.close()

        peak, after = coordinator.memory_mb("VmHWM"), coordinator.memory_mb()
        operators = run("coordinator", "invite", str(coordinator.folder), "--operator")
        good = Member.joined(operators.stdout.strip())
        assert good.check(good.contribute(good.pack(good.lease("good", ("good-k7",))))).leaf
        good.link.close()
        assert coordinator.pid == pid
        assert "fault in" not in coordinator.log(), coordinator.log()[-4_000:]
        assert "/coordinator/" not in coordinator.log()  # no traceback through our code
    return Figures(crowd.tally, raws, before, after, peak)


def check(figures: Figures) -> None:
    """Check the figures against R8."""
    assert figures.live.faults == []
    assert figures.raw.faults == []
    assert set(figures.live.answers) == live_fuzz.PATHS
    assert figures.live.share("rate-limited") < 0.05  # an answer "too often" tells nothing
    assert figures.after_mb - figures.before_mb <= MOST_GROWTH_MB
    assert figures.peak_mb - figures.before_mb <= MOST_GROWTH_MB


def test_malformed_messages_are_refused_in_typed_answers(tmp_path: Path):
    """Each call damaged in its bytes, fields, documents and signatures; raw bytes on the socket."""
    check(fuzzed(tmp_path, messages=2_000, raw=60, owners=8, leases=3))


@pytest.mark.parametrize("name", ["value-error-let-out", "parse-error-let-out"])
def test_a_seeded_bug_of_the_handlers_is_found(tmp_path: Path, name: str):
    """UNKNOWN where an error got out, `coordinator-fault` where the last line caught it."""
    folder = founded(tmp_path, rank=5, make=wide_base)
    with Bug.named(name).in_process(), running(folder) as coordinator:
        crowd = LiveFuzz(coordinator.invite(), seed=SEED)
        crowd.prepare(owners=4, leases=1)
        crowd.run(400)
        crowd.close()

    assert crowd.tally.faults


@pytest.mark.faults
def test_fifty_thousand_malformed_messages(tmp_path: Path, capsys):
    """R8's figure: no restart, at most 32 MB more, 0 UNKNOWN or INTERNAL among our answers."""
    figures = fuzzed(tmp_path, messages=50_000, raw=2_000, owners=16, leases=8)
    with capsys.disabled():
        print(f"\n{figures}")

    check(figures)


def held(invite: Invite, calls: int) -> int:
    with Raw(invite.addr, invite.ca) as raw:
        body = bytes(methods.MESSAGE_BYTES)
        return hold_bodies(raw, methods.PUT.path, body, streams=calls, seconds=SLOW_S)


@pytest.mark.faults
@pytest.mark.parametrize(("sockets", "calls", "most_mb"), [(500, 1, 640), (512, 4, 640)])
def test_memory_is_bounded_under_the_slowest_senders(
    tmp_path: Path, capsys, sockets: int, calls: int, most_mb: int
):
    """All but the last byte of the longest message, on 500 sockets (T18) and in every call."""
    base = wide_base(tmp_path / "base")
    with Coordinator.found(tmp_path / "fed", base, "--rank", "5") as coordinator:
        invite = Invite.from_text(coordinator.invite(uses=10))
        pid, before = coordinator.pid, coordinator.memory_mb()
        with ThreadPoolExecutor(sockets) as pool:
            taken = sum(pool.map(held, [invite] * sockets, [calls] * sockets))
        peak = coordinator.memory_mb("VmHWM")
        good = Member.joined(coordinator.invite())
        assert good.contribute(good.pack(good.lease("good", ("good-k7",))))
        good.link.close()
        assert coordinator.pid == pid
        after = coordinator.memory_mb()
    with capsys.disabled():
        told = f"{sockets} sockets, {sockets * calls} calls without their last byte, {taken} so far"
        print(f"\n{told}; memory {before:.1f} MB, at most {peak:.1f}, then {after:.1f}")

    assert taken > sockets * calls // 4
    assert peak <= most_mb
