"""What a test of Flower processes leaves behind: whether it failed, which its fixtures ask."""

from collections.abc import Generator

import pytest

FAILED = pytest.StashKey[bool]()
"""In the stash of a test that failed before its fixtures are taken down."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note a failure where the test's fixtures see it."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report
