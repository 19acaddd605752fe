"""R6, R13: the real store under any order of calls, kills and clock jumps (store_machine.py).

After each step the answer and every row must be what the table of reliability.md 3 says
(store_world.py, which never hears of wall time: I8), and ledger, receipts and blobs keep I1 to I7
(store_check.py).
"""

import sqlite3
from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded_with
from hypothesis.stateful import run_state_machine_as_test

from orthofed.core.errors import OrthoFedError

from .forked import Nursery, founded
from .member import Member
from .seeded import Bug
from .store_machine import Machine
from .store_play import Founded

_MEMBERS = 3
_STEPS = 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Founded:
    """Give a founded folder of two slots and three members."""
    path = founded(tmp_path_factory.mktemp("machine"), slots=2, kib=1)
    with Nursery() as nursery, nursery.answer(path) as coordinator:
        members: list[Member] = []
        for _ in range(_MEMBERS):
            members.append(Member(coordinator.joining(coordinator.ask("invite"))))
            members[-1].join()
        spec = members[0].spec()
        coordinator.close()
    return Founded(path, members[0].invite, tuple(m.key for m in members), spec)


def play(folder: Founded, *, histories: int, number: int | None = None) -> Counter[str]:
    """Play histories of up to 50 rules, always the same ones, or those of a seed."""

    class Here(Machine):
        founded = folder
        figures: ClassVar[Counter[str]] = Counter()

    if number is not None:
        seeded_with(number)(Here)
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=histories,
            stateful_step_count=_STEPS,
            derandomize=number is None,
            database=None,
            deadline=None,
            phases=(Phase.generate,),
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
    return Here.figures


def test_no_history_breaks_a_law_of_the_store(folder):
    """R6, R13, the short form: the same 10 histories each time."""
    figures = play(folder, histories=10)

    assert figures["steps"] > 100
    assert figures["kills inside a step"] > 10
    assert figures["receipts"] > 1


@pytest.mark.faults
def test_no_history_of_50_000_steps_breaks_a_law_of_the_store(folder, seed, figures):
    """The long form: fresh histories until members and operator have asked 50,000 things."""
    total = Counter[str]()
    while total["steps"] < 50_000:
        total += play(folder, histories=200, number=seed + total["histories"])

    figures.say("R6, R13 stateful", **{name.replace(" ", "_"): n for name, n in total.items()})


BUGS = (
    "fence-not-compared",
    "fence-not-raised",
    "late-commit-refused",
    "grant-from-wall-time",
    "upload-row-deleted-on-commit",
    "two-live-contributions",
)
RARER_BUGS = (
    "client-not-compared",
    "slot-freed-early",
    "filled-slot-given-away",
    "old-name-kept",
    "revision-frees-slot",
    "late-revision-given-away",
)


@pytest.mark.parametrize(
    "name", [*BUGS, *(pytest.param(name, marks=pytest.mark.faults) for name in RARER_BUGS)]
)
def test_the_histories_find_a_seeded_bug(folder, name):
    """Each bug, in every module that uses it: some history must not stay green."""
    caught = pytest.raises((AssertionError, OrthoFedError, sqlite3.IntegrityError))
    with Bug.named(name).everywhere(), caught:
        play(folder, histories=400)
