"""Work done ahead comes out in its own order, and never more of it than was allowed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from orthofed.coordinator.ahead import ahead


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_work(threads: int) -> None:
    """The first piece ends last, and is given first all the same."""
    late = threading.Event()

    def piece(number: int) -> int:
        if number == 0 and threads > 1:
            late.wait(10)
        elif number == 1:
            late.set()
        return number

    with ThreadPoolExecutor(threads) as pool:
        got = list(ahead((partial(piece, i) for i in range(20)), pool, num=4))

    assert got == list(range(20))


def test_no_more_than_the_allowed_number_is_begun_before_it_is_asked_for() -> None:
    """Nothing before the first ask; then one more piece for each that was taken."""
    begun: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        results = ahead((partial(begun.append, i) for i in range(9)), pool, num=3)
        before = list(begun)
        next(results)
        pool.submit(int).result()  # the one thread has done all that was handed to it
        after = list(begun)

    assert (before, after) == ([], [0, 1, 2])


def test_an_error_comes_out_where_its_piece_would_have() -> None:
    """What was asked for before it is whole."""

    def piece(number: int) -> int:
        return 1 // (2 - number)

    with ThreadPoolExecutor(2) as pool:
        results = ahead((partial(piece, i) for i in range(4)), pool, num=4)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)
