"""T5: lengths that somebody wrote are compared with what is possible before anything is made.

Each attack is a file as a consumer would have downloaded it, or a blob as a coordinator would have
received it; sizes are real, in sparse files. What may be asked of memory is T5's figure.
"""

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orthofed.client.verify import check_header
from orthofed.core import layout as layouts
from orthofed.core.errors import OrthoFedError

from .besieged import besieged
from .forked import founded

MOST_BYTES = 8 << 20


def entry(shape: str = "[1]", offsets: str = "[0,4]") -> str:
    return f'{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}'


def many_names() -> bytes:
    body = ",".join(f'"{n:07}":{entry("[0]", "[0,0]")}' for n in range(30_000))
    return f"{{{body}}}".encode()


ATTACKS: dict[str, Callable[[], tuple[int, bytes, int]]] = {
    "a header of 98 MB": lambda: (98 << 20, b"{" + b" " * 64, 200 << 20),
    "a length of 2^63": lambda: (2**63, b"{}", 4_096),
    "a length of 2^64 - 1": lambda: (2**64 - 1, b"{}", 4_096),
    "a length of the whole file": lambda: (4_096, b"{}", 4_096),
    "10^9 x 10^9 numbers": lambda: sized(f'{{"a":{entry("[1000000000,1000000000]")}}}'.encode()),
    "100,000 dimensions": lambda: sized(f'{{"a":{entry("[" + "1," * 99_999 + "1]")}}}'.encode()),
    "a petabyte of offsets": lambda: sized(
        f'{{"a":{entry("[250000000000000]", "[0,1000000000000000]")}}}'.encode()
    ),
    "1.6 million names": lambda: (98 << 20, many_names()[:4_000], 200 << 20),
    "30,000 names beyond a mebibyte": lambda: sized(many_names()),
    "100,000 levels": lambda: sized(b'{"a":' * 100_000),
}


def sized(text: bytes) -> tuple[int, bytes, int]:
    """Return a header with its right length, and a file that has room for four bytes of data."""
    return len(text), text, 8 + len(text) + 4


@pytest.fixture
def peak() -> Iterator[Callable[[], int]]:
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.mark.parametrize("name", ATTACKS)
def test_a_download_that_announces_too_much_is_refused_cheaply(
    name: str, tmp_path: Path, peak: Callable[[], int]
):
    """Refused, and less than 8 MB asked for on the way."""
    length, text, size = ATTACKS[name]()
    path = tmp_path / "lora.safetensors"
    with path.open("wb") as file:
        file.write((length % 2**64).to_bytes(8, "little") + text)
        file.truncate(size)
    del text
    tracemalloc.reset_peak()

    with pytest.raises(OrthoFedError):
        check_header(path, path.name)

    assert peak() < MOST_BYTES


@pytest.mark.parametrize("name", ATTACKS)
def test_an_upload_with_a_giant_header_is_compared_and_not_parsed(
    name: str, made, tmp_path: Path, peak: Callable[[], int]
):
    """Whatever its header says, a blob has the length of the lease's layout, or is refused."""
    layout = made
    length, text, _ = ATTACKS[name]()
    blob = ((length % 2**64).to_bytes(8, "little") + text).ljust(layout.size, b"\0")
    path = tmp_path / "blob"
    path.write_bytes(blob[: layout.size])
    other = tmp_path / "longer"
    with other.open("wb") as file:
        file.truncate(98 << 20)
    tracemalloc.reset_peak()

    for each in (path, other):
        with pytest.raises(OrthoFedError) as refused:
            compare(each, layout)
        assert refused.value.code == "layout-differs"

    assert peak() < MOST_BYTES


def compare(path: Path, layout: layouts.ContributionLayout) -> None:
    """Do what the coordinator does first with a blob."""
    layouts.check_size(layout, path.stat().st_size)
    with path.open("rb") as file:
        layouts.check_header(layout, file.read(len(layout.header)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = founded(tmp_path_factory.mktemp("giant"), slots=4, kib=4)
    with besieged(folder) as siege:
        yield siege.house.layout((1,))
