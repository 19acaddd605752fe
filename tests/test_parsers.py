"""R9, T8: whatever bytes a parser is given, it answers in time, in bounds and in its own words.

The table is parsers.py. Short form: damaged known answers. Long form (`make faults`): a million
inputs for each parser, chosen by coverage (fuzz_parser.py); it prints its figures.
"""

import json
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .parsers import PARSERS, Parser
from .seeded import Bug

RUNS = 1_000_000
MOST_MS = 50
MOST_MB = 100
NUMBERS = (1 << 20, 1 << 27, 1 << 31, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
VALUES = (
    b"1e999",
    b"-1",
    b"null",
    b"NaN",
    b"1" * 5_000,
    b"9" * 17,
    b"true",
    b'"\xff"',
    b"[]",
    b"{}",
)
EDITS = st.tuples(st.integers(0, 1 << 16), st.integers(0, 8), st.binary(max_size=8))


def variants(seed: bytes) -> Iterator[bytes]:
    """Yield what people try first: declared lengths, nesting, other spellings, cuts."""
    for number in NUMBERS:
        yield number.to_bytes(8, "little") + seed[8:]
        yield number.to_bytes(8, "big") + seed[8:]
    for place in range(0, len(seed), 1 + len(seed) // 12):
        yield seed[:place]
        for word in (b" ", b"\0", b"\xff", b'"', b'\\"', b"[" * 2_000):
            yield seed[:place] + word + seed[place:]
    numbers, texts = re.finditer(rb"[0-9]+", seed), re.finditer(rb'"[^"]*"', seed)
    for found in (*islice(numbers, 5), *islice(texts, 8)):
        for value in VALUES:
            yield seed[: found.start()] + value + seed[found.end() :]


def attack(parser: Parser) -> None:
    """Read all variants of all seeds."""
    for seed in parser.seeds:
        for data in (seed, *variants(seed)):
            within_bounds(parser, data)


def within_bounds(parser: Parser, data: bytes) -> None:
    tracemalloc.reset_peak()
    parser.run(data)
    assert tracemalloc.get_traced_memory()[1] < MOST_MB << 20


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def by_name(name: str) -> Parser:
    return next(parser for parser in PARSERS if parser.name == name)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_a_damaged_known_answer_is_refused_in_the_parsers_own_words(parser: Parser):
    """Declared lengths, nesting, other spellings, other types, cuts."""
    attack(parser)


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
@settings(derandomize=True, deadline=None, max_examples=15)
@given(data=st.data())
def test_any_bytes_are_a_value_or_the_parsers_own_error(parser: Parser, data: st.DataObject):
    """A few bytes of a good input replaced, dropped or added; or any bytes at all."""
    raw = bytearray(data.draw(st.sampled_from((*parser.seeds, b""))))
    for place, dropped, added in data.draw(st.lists(EDITS, max_size=4)):
        start = place % (len(raw) + 1)
        raw[start : start + dropped] = added

    parser.run(bytes(raw))


def test_every_seed_of_a_format_is_one():
    """A fuzzer that starts from what is refused at once reaches nothing."""
    assert [parser.name for parser in PARSERS if not any(map(parser.run, parser.seeds))] == []


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    ("bug", "parser"),
    [
        ("re-encoding-skipped", "canonical JSON"),
        ("re-encoding-skipped", "release manifest"),
        ("length-believed", "tensor file"),
    ],
)
def test_a_seeded_bug_is_found(bug: str, parser: str):
    """JSON in another spelling is taken; a buffer is made for a declared length."""
    with Bug.named(bug).in_process(), pytest.raises((AssertionError, MemoryError, OverflowError)):
        attack(by_name(parser))


@pytest.mark.faults
@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_a_million_inputs_chosen_by_coverage(parser: Parser, tmp_path: Path, capsys):
    """R9: 0 crashes, at most 100 MB more and 50 ms an input; what is taken has one spelling."""
    program = Path(__file__).parent / "fuzz_parser.py"
    done = subprocess.run(
        [sys.executable, "-P", program, parser.name, str(RUNS), tmp_path],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    told = json.loads(done.stdout.splitlines()[-1])
    with capsys.disabled():
        print(f"\n{json.dumps(told)}", end="")

    assert told["runs"] == RUNS
    assert told["taken"] > 0
    assert told["slowest_ms"] <= MOST_MS
    assert told["growth_mb"] <= MOST_MB
