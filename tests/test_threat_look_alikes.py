"""T23: one name, however it is spelled, has one owner, also when 64 ask at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from orthofed.core.errors import OrthoFedError
from orthofed.core.names import skeleton
from orthofed.core.spec import Limits

from .besieged import besieged
from .forked import copied, founded

RACERS = 64
SPELLINGS = ("anna-k7", "ann-a-k7", "annak7", "a-nna-k7")


@pytest.fixture
def siege(tmp_path):
    limits = Limits(operator_slots_percent=0, leases_a_day=100)
    made = founded(tmp_path / "made", slots=RACERS, kib=4, limits=limits)
    with besieged(copied(made, tmp_path / "fed")) as opened:
        yield opened


def test_of_64_who_ask_at_once_for_look_alikes_one_wins(siege):
    """There is a slot for each of them; the name goes to one, the others are told why."""
    invite = siege.invite(uses=RACERS)
    racers = [siege.stranger(invite) for _ in range(RACERS)]
    for racer in racers:
        racer.join()

    def ask(number: int) -> str:
        name = SPELLINGS[number % len(SPELLINGS)]
        try:
            racers[number].lease(f"concept-{number}x", (name,))
        except OrthoFedError as error:
            return error.code
        return "won"

    with ThreadPoolExecutor(RACERS) as pool:
        answers = list(pool.map(ask, range(RACERS)))

    assert len({skeleton(name) for name in SPELLINGS}) == 1
    assert answers.count("won") == 1
    assert answers.count("name-taken") == RACERS - 1
