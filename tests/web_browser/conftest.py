"""One browser for all tests of a run."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from .browser import chromium


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start it once."""
    with chromium() as found:
        yield found
