"""Work that is done before it is asked for, on other threads, and given in its own order.

Law: what comes out does not depend on the number of threads; ``num`` pieces at most are under way
or ready, so that is also the memory they take. An error comes out where its piece would have.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")


def ahead(work: Iterable[Callable[[], T]], pool: Executor, *, num: int) -> Iterator[T]:
    """Give the result of each piece of ``work``, in order; nothing starts before the first ask."""
    waiting: deque[Future[T]] = deque()
    for piece in work:
        waiting.append(pool.submit(piece))
        if len(waiting) >= num:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
