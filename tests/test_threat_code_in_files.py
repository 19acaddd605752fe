"""T9: no file of ours is ever run, and no library that would run one is used.

The first test reads the source of everything that ships; the others hand a pickle that makes a file
when somebody opens it to each place that takes files from others.
"""

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from orthofed.client.verify import check_header
from orthofed.core.errors import ContributionRejected, OrthoFedError
from orthofed.core.tensorfile import header_length, parse_header

from .besieged import besieged
from .forked import founded

ROOT = Path(__file__).parent.parent
PACKAGES = (
    *("core", "proto", "coordinator", "client", "admission", "fleet", "simulation", "web"),
    *("assets", "benchmarks", "deploy"),
)
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "code"}
CALLS = {"eval", "exec", "compile", "__import__", "torch.load", "yaml.load"}
KNOWN_FILES = ("assets/", "benchmarks/study/features.py")
"""Who reads a pickle, weights only: the base model's builder what it wrote itself, and the study a
package's weights whose SHA-256 it compares before."""


def dangers(source: str, name: str) -> Iterator[str]:
    """Name each place that could run what it reads."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (f"{name}:{node.lineno} {n.name}" for n in names if n.name in MODULES)
            case ast.ImportFrom(module=module) if module in MODULES:
                yield f"{name}:{node.lineno} {module}"
            case ast.Call(func=func) if (called := ast.unparse(func)) in CALLS:
                if not (name.startswith(KNOWN_FILES) and "weights_only=True" in ast.unparse(node)):
                    yield f"{name}:{node.lineno} {called}"
            case ast.keyword(arg="trust_remote_code" | "allow_pickle", value=ast.Constant(True)):
                yield f"{name}:{node.value.lineno} {node.arg}"
            case _:
                pass


def shipped() -> Iterator[Path]:
    yield from (ROOT / "__main__.py", ROOT / "__init__.py")
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def test_nothing_that_ships_could_run_what_it_reads():
    """No pickle, no eval, no torch.load, no remote code, in any file of any package."""
    found = [
        each
        for path in shipped()
        for each in dangers(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())
    ]

    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from marshal import loads",
        "eval(text)",
        "torch.load(path)",
        "yaml.load(text)",
        "model.from_pretrained(name, trust_remote_code=True)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_the_scan_sees_each_of_them(line: str):
    """A scan that finds nothing proves nothing unless it would have found this."""
    assert list(dangers(f"def f():\n    {line}\n", "f.py"))


class Canary:
    """Makes a file when somebody unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def test_the_canary_sings(canary: Path):
    """It would be seen."""
    pickle.loads(pickle.dumps(Canary(canary)))  # noqa: S301  # the attack itself

    assert canary.exists()


def test_a_pickle_as_an_upload_is_refused_and_never_opened(tmp_path_factory, canary: Path):
    """Padded to the right size and signed, it differs from the one legal header."""
    folder = founded(tmp_path_factory.mktemp("pickle"), slots=4, kib=4)
    with besieged(folder) as siege:
        member = siege.member()
        lease = member.lease("wren", ("wren-k7",))
        size = len(member.pack(lease).blob)
        blob = pickle.dumps(Canary(canary)).ljust(size, b".")
        packed = member.pack(lease, blob=blob)

        with pytest.raises(ContributionRejected):
            member.contribute(packed)

    assert not canary.exists()


def test_a_pickle_as_a_download_is_refused_at_its_eighth_byte(tmp_path: Path, canary: Path):
    """The first eight bytes of a pickle are no header length of a file of this size."""
    path = tmp_path / "lora.safetensors"
    path.write_bytes(pickle.dumps(Canary(canary)))

    with pytest.raises(OrthoFedError):
        check_header(path, path.name)
    with pytest.raises(OrthoFedError):
        header_length(path.read_bytes()[:8], file_size=path.stat().st_size)

    assert not canary.exists()


def test_a_pickle_behind_a_right_length_is_refused_at_its_first_byte(tmp_path: Path, canary: Path):
    """Eight bytes of length, then a pickle where the brace should be."""
    body = pickle.dumps(Canary(canary))
    raw = len(body).to_bytes(8, "little") + body
    path = tmp_path / "lora.safetensors"
    path.write_bytes(raw)

    with pytest.raises(OrthoFedError):
        check_header(path, path.name)
    with pytest.raises(OrthoFedError):
        parse_header(raw, file_size=len(raw))

    assert not canary.exists()
