"""Which node is told of which order: one at a time, again after a while, none forgotten."""

from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.coordinator.dispatch import AGAIN_S, Dispatch, Due, Waiting, step

ANA, BEN = 11, (1 << 64) - 1
TRAIN, SCORE, OTHER = Waiting(b"t", ANA), Waiting(b"s", ANA), Waiting(b"o", BEN)


class Bridge:
    """Asks and asks again."""

    def __init__(self) -> None:
        self.state = Dispatch()
        self.now_s = 1_000.0

    def asks(self, *waiting: Waiting, free: tuple[int, ...] = (ANA, BEN)) -> list[bytes]:
        due = Due(self.now_s, frozenset(free), waiting)
        self.state, told = step(self.state, due)
        return [each.order for each in told]


def test_an_order_is_told_once_and_again_after_a_quarter_of_an_hour():
    """To free nodes alone."""
    bridge = Bridge()
    busy = bridge.asks(TRAIN, free=(BEN,))
    first = bridge.asks(TRAIN)
    bridge.now_s += AGAIN_S - 1
    soon = bridge.asks(TRAIN)
    bridge.now_s += 1
    again = bridge.asks(TRAIN)

    assert (busy, first, soon, again) == ([], [b"t"], [], [b"t"])


def test_a_node_hears_of_one_order_at_a_time_each_in_its_turn():
    """Two orders of one member and one of another: the one never told first, then by age."""
    bridge = Bridge()

    heard = []
    for _ in range(4):
        heard.append(bridge.asks(TRAIN, SCORE, OTHER))
        bridge.now_s += AGAIN_S

    assert heard == [[b"t", b"o"], [b"s", b"o"], [b"t", b"o"], [b"s", b"o"]]


def test_a_closed_order_is_news_for_the_others_of_its_node():
    """The contribution is there: what waited for it is told at once; another node hears nothing."""
    bridge = Bridge()
    bridge.asks(TRAIN, SCORE, OTHER)
    bridge.asks(TRAIN, SCORE, OTHER)

    quiet = bridge.asks(TRAIN, SCORE, OTHER)
    news = bridge.asks(SCORE, OTHER)
    after = bridge.asks(SCORE, OTHER)

    assert (quiet, news, after) == ([], [b"s"], [])


def test_a_members_new_node_is_told_at_once():
    """The old node heard it, the new one did not."""
    bridge = Bridge()
    bridge.asks(TRAIN)

    assert bridge.asks(Waiting(b"t", BEN)) == [b"t"]


def test_what_is_remembered_is_of_open_orders_alone():
    """Orders come and go for months, and memory does not grow."""
    bridge = Bridge()
    for number in range(1_000):
        bridge.asks(Waiting(number.to_bytes(2), ANA))

    assert set(bridge.state.told) == {(999).to_bytes(2)}


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.frozensets(st.integers(0, 7)), st.frozensets(st.integers(0, 2)), st.integers(0, 1200)
        ),
        max_size=30,
    )
)
def test_no_history_tells_twice_too_soon_or_forgets(history):
    """Any orders open and closed, any nodes free: one a node, and each open one within its turn."""
    state, now_s, told = Dispatch(), 0.0, dict[int, float]()
    before: frozenset[int] = frozenset()
    for open_orders, free, passed_s in history:
        now_s += passed_s
        waiting = tuple(Waiting(bytes([n]), n % 3) for n in sorted(open_orders))
        state, chosen = step(state, Due(now_s, free, waiting))
        numbers = [each.order[0] for each in chosen]
        news = {n % 3 for n in before - open_orders}
        told = {n: at_s for n, at_s in told.items() if n % 3 not in news}

        assert len({n % 3 for n in numbers}) == len(numbers)
        assert {n % 3 for n in numbers} <= free
        assert set(numbers) <= open_orders
        for n in numbers:
            assert n not in told or now_s - told[n] >= AGAIN_S
        for n in open_orders - before:
            if n % 3 in free:
                assert any(chosen_n % 3 == n % 3 for chosen_n in numbers)
        told |= dict.fromkeys(numbers, now_s)
        before = open_orders
