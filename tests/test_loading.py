"""The libraries for learning come in with the collector off, and it is on again behind them."""

import subprocess
import sys

import pytest

CODE = """\
import gc, sys
{before}
from orthofed.client.loading import loading
passes = []
gc.callbacks.append(lambda phase, _: passes.append(phase))
try:
    with loading():
        import torch
        kept = [[] for _ in range(10_000)]
        {within}
except ZeroDivisionError:
    pass
print(len(passes), gc.isenabled(), gc.get_freeze_count() > 10_000)
"""


def said(**parts: str) -> list[str]:
    given = {"before": "", "within": "", **parts}
    code = CODE.format(**given)
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("within", ["", "1 / 0"])
def test_no_pass_is_made_and_what_came_is_set_aside(within: str) -> None:
    """Not one pass in the import of torch; the collector is on again, also where that fails."""
    assert said(within=within) == ["0", "True", "True"]


def test_who_has_it_off_keeps_it_off() -> None:
    """A benchmark may measure without a collector."""
    assert said(before="gc.disable()") == ["0", "False", "True"]


def test_what_is_alive_later_is_not_set_aside() -> None:
    """With torch loaded there is nothing to speed up, and garbage of now must stay collectable."""
    passes, is_on, is_frozen = said(before="import torch")

    assert int(passes) > 0
    assert (is_on, is_frozen) == ("True", "False")
