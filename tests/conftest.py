"""What every test has: a seed to give again, figures, a search of argv, calls of core looked at."""

import gc
import random
from collections.abc import Iterator
from typing import Any

import pytest

from .argv_watch import ArgvWatch, keys_below
from .checked_types import check_types

check_types("orthofed.core")
gc.disable()  # until everything is imported: a fifth of that time is spent on looking for garbage
FIGURES = pytest.StashKey[list[tuple[str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take ``--seed``: the number that a failed fault test printed."""
    parser.addoption("--seed", type=int, default=None, help="Replay the random fault tests.")


def pytest_configure(config: pytest.Config) -> None:
    """Start with no figures."""
    config.stash[FIGURES] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long: none is left for the end, beside an idle core."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """Look for garbage from here on, among what the tests make alone."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def no_secret_among_arguments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail at the end of the run if a test gave a process a secret among its arguments (T27)."""
    watch = ArgvWatch()
    watch.begin()
    yield
    leaks = watch.leaks(keys_below(tmp_path_factory.getbasetemp()))
    assert not leaks, f"secrets among the arguments of processes that were started by {leaks}"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Return the seed of this test's random choices; a failure shows it."""
    given = request.config.getoption("--seed")
    number = given if given is not None else random.SystemRandom().randrange(1 << 32)
    print(f"replay with --seed {number}")
    return number


class Figures:
    """Collects what a fault test measured, to be printed after the run."""

    def __init__(self, lines: list[tuple[str, str]]) -> None:
        self._lines = lines

    def say(self, suite: str, **numbers: object) -> None:
        """Keep one line of figures."""
        told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in numbers.items())
        self._lines.append((suite, told))


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Give the collector."""
    return Figures(request.config.stash[FIGURES])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the figures of a worker of pytest-xdist to the process that prints them."""
    told: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if told is not None:
        told["figures"] = session.config.stash[FIGURES]


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, which a run of one file does without
def pytest_testnodedown(node: Any) -> None:  # it publishes no types
    """Keep what a worker measured; one that crashed has nothing to say."""
    for suite, told in getattr(node, "workeroutput", {}).get("figures", ()):
        node.config.stash[FIGURES].append((suite, told))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the figures of the fault suites."""
    if lines := config.stash[FIGURES]:
        terminalreporter.section("figures of the fault suites")
        for suite, told in lines:
            terminalreporter.write_line(f"{suite}: {told}")
