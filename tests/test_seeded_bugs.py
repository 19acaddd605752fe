"""Every seeded bug still applies, still is Python, and is named by a test that must catch it."""

import re
from pathlib import Path

import pytest

from .seeded import FOLDER, Bug

NAMES = sorted(path.stem for path in FOLDER.glob("*.patch"))


@pytest.mark.parametrize("name", NAMES)
def test_a_seeded_bug_applies_and_a_test_uses_it(name):
    """A patch that no longer fits, or that no test runs, would be a bug that nobody looks for."""
    bug = Bug.named(name)
    caught_by = re.findall(r"Caught by ((?:\w+/)?test_\w+\.py)", bug.says)

    assert caught_by, "its first line says which test catches it"
    for test in caught_by:
        assert f'"{name}"' in (Path(__file__).parent / test).read_text("utf-8")
