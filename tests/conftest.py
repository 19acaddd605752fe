"""What every test can have: a seed that can be given again, and a table of figures at the end."""

import random

import pytest

FIGURES = pytest.StashKey[list[tuple[str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take ``--seed``: the number that a failed fault test printed."""
    parser.addoption("--seed", type=int, default=None, help="Replay the random fault tests.")


def pytest_configure(config: pytest.Config) -> None:
    """Start with no figures."""
    config.stash[FIGURES] = []


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


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the figures of the fault suites."""
    if lines := config.stash[FIGURES]:
        terminalreporter.section("figures of the fault suites")
        for suite, told in lines:
            terminalreporter.write_line(f"{suite}: {told}")
