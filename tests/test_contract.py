"""The wire contract is its own specification: every part of proto/v1 says what it means.

The test reads the sources' comments through the compiler's descriptors, so a comment counts only
where protoc attaches it to the message, field, value or call.
"""

import importlib.resources
import tempfile
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from orthofed.proto import methods

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "proto" / "v1").glob("*.proto"))
SHORTEST = 16


def parsed(path: Path) -> descriptor_pb2.FileDescriptorProto:
    """Return the file's descriptor with its comments."""
    includes = importlib.resources.files("grpc_tools") / "_proto"
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "set"
        words = ["protoc", f"-I{path.parent}", f"-I{includes}", "--include_source_info"]
        assert protoc.main([*words, f"--descriptor_set_out={out}", path.name]) == 0
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file[0]


def parts(file: descriptor_pb2.FileDescriptorProto) -> dict[tuple[int, ...], str]:
    """Return every part that needs a comment, by its path in the descriptor."""
    found: dict[tuple[int, ...], str] = {}
    for i, message in enumerate(file.message_type):
        found[4, i] = message.name
        for j, field in enumerate(message.field):
            found[4, i, 2, j] = f"{message.name}.{field.name}"
        for j, group in enumerate(message.oneof_decl):
            found[4, i, 8, j] = f"{message.name}.{group.name}"
    for i, enum in enumerate(file.enum_type):
        found[5, i] = enum.name
        for j, value in enumerate(enum.value):
            found[5, i, 2, j] = value.name
    for i, service in enumerate(file.service):
        found[6, i] = service.name
        for j, call in enumerate(service.method):
            found[6, i, 2, j] = f"{service.name}.{call.name}"
    return found


def uncommented(file: descriptor_pb2.FileDescriptorProto) -> set[str]:
    """Return the names of parts whose comment is missing or says next to nothing."""
    comments = {tuple(spot.path): spot.leading_comments for spot in file.source_code_info.location}
    wanted = parts(file)
    return {name for path, name in wanted.items() if len(comments.get(path, "").strip()) < SHORTEST}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_message_field_value_and_call_has_a_comment(path):
    """A part without a comment is named."""
    assert uncommented(parsed(path)) == set()


def test_a_missing_comment_is_found(tmp_path):
    """The guard itself: one comment removed from a message and one from a field."""
    text = FILES[0].read_text().replace("// Set by the client: which chunk", "// Which")
    bare = text.replace("// One chunk of the blob.\n", "")
    path = tmp_path / "bare.proto"
    path.write_text(bare)

    assert "PutRequest" in uncommented(parsed(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_field_says_who_sets_it(path):
    """Rule 21: a field's comment opens with who sets it."""
    file = parsed(path)
    comments = {tuple(spot.path): spot.leading_comments for spot in file.source_code_info.location}

    for place, name in parts(file).items():
        if place[0] == 4 and place[2:3] == (2,):
            assert comments[place].strip().startswith("Set by the "), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_call_says_its_signer_or_a_resend(path):
    """A call's comment names the status of a violation, and whether a resend is safe."""
    file = parsed(path)
    comments = {tuple(spot.path): spot.leading_comments for spot in file.source_code_info.location}
    whole = "".join(
        spot.leading_detached_comments[0]
        for spot in file.source_code_info.location
        if spot.leading_detached_comments
    )  # the file's own words

    for place, name in parts(file).items():
        if place[0] == 6 and len(place) == 4:
            said = comments[place]
            assert "esend" in said or "resend" in whole or "repeated for ever" in whole, name
            assert any(
                (word.isupper() and "_" in word) or word == "UNAVAILABLE"
                for word in said.replace(",", " ").split()
            ), name


def test_no_field_carries_a_float_or_a_loose_map():
    """Rule 22: tensors travel as integers inside blobs; no message has room for a number else."""
    floats = {
        descriptor_pb2.FieldDescriptorProto.TYPE_FLOAT,
        descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE,
    }

    for path in FILES:
        for message in parsed(path).message_type:
            assert not message.nested_type
            assert floats.isdisjoint({field.type for field in message.field})


def test_the_method_table_is_the_contract():
    """methods.METHODS names exactly the calls of the services, each once."""
    calls = {
        f"/{file.package}.{service.name}/{call.name}"
        for file in map(parsed, FILES)
        for service in file.service
        for call in service.method
    }

    assert {method.path for method in methods.METHODS} == calls
    assert len(methods.METHODS) == len(calls)
    assert {path.rpartition("/")[0][1:] for path in calls} == set(methods.SERVICES)
