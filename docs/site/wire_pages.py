"""Reference of the wire contract: every call, message, field and value of proto/v1, with its words.

Law: the words are the comments of the sources, as the compiler attaches them; limits and signers
are those of the table that the coordinator refuses by (proto/methods.py). Nothing is typed here.
"""

import importlib.resources
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from commands_page import cell, escaped
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from orthofed.proto.methods import METHODS, Method

ROOT = Path(__file__).parents[2]
FOLDER = "reference/wire"
_INTRO = (
    "Version 1 of what travels between a client and a coordinator: gRPC over TLS, unary calls, no"
    " compression. The comments of `proto/v1` are the specification, and these pages are made of"
    " them. A request is signed by the key that the table names, over method, message, ledger,"
    " time and nonce; what is larger than its limit is refused before it is parsed."
)
_TITLES = {
    "federation": "Join, lease, renew",
    "contributions": "Send, withdraw",
    "releases": "Fetch",
    "orders": "Orders and scores",
}
_KINDS = {
    descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{name}"): name.lower()
    for name in ("BYTES", "STRING", "UINT32", "UINT64", "BOOL", "INT32", "INT64")
}
File = descriptor_pb2.FileDescriptorProto
Comments = dict[tuple[int, ...], str]


def wire_pages() -> dict[str, str]:
    """Return the Markdown of each page by its address."""
    files = {path.stem: _parsed(path) for path in sorted((ROOT / "proto" / "v1").glob("*.proto"))}
    homes = {
        part.name: stem
        for stem, file in files.items()
        for part in (*file.message_type, *file.enum_type)
    }
    pages = {f"{FOLDER}/README.md": "\n".join(_index(files))}
    for stem, file in files.items():
        pages[f"{FOLDER}/{stem}.md"] = "\n".join(_Page(stem, file, homes).lines())
    return pages


def _parsed(path: Path) -> File:
    includes = importlib.resources.files("grpc_tools") / "_proto"
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "set"
        words = ["protoc", f"-I{path.parent}", f"-I{includes}", "--include_source_info"]
        if protoc.main([*words, f"--descriptor_set_out={out}", path.name]):
            raise ValueError(f"protoc does not read {path}")
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file[0]


def _index(files: dict[str, File]) -> Iterator[str]:
    yield from ("# The wire contract", "", _INTRO, "")
    yield from ("| call | signed by | at most | within | |", "| --- | --- | --- | --- | --- |")
    for stem, file in files.items():
        comments = _comments(file)
        for i, service in enumerate(file.service):
            for j, call in enumerate(service.method):
                method = _method(file, service.name, call.name)
                name = f"{service.name}.{call.name}"
                said = comments[6, i, 2, j].split(". ")[0].rstrip(".")
                yield (
                    f"| [`{name}`]({stem}.md#{_slug(name)}) | {method.signer} |"
                    f" {method.request_bytes:,} bytes | {method.deadline_s} s | {cell(said)} |"
                )
    yield ""


def _method(file: File, service: str, call: str) -> Method:
    path = f"/{file.package}.{service}/{call}"
    return next(method for method in METHODS if method.path == path)


def _comments(file: File) -> Comments:
    """Return what stands before each part of a file, in one line a paragraph."""
    return {
        tuple(spot.path): _paragraphs(spot.leading_comments)
        for spot in file.source_code_info.location
    }


def _paragraphs(text: str) -> str:
    parts = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(" ".join(part.split()) for part in parts)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9_]", "", name.lower())


class _Page:
    """The page of one file."""

    def __init__(self, stem: str, file: File, homes: dict[str, str]) -> None:
        self._stem, self._file, self._homes = stem, file, homes
        self._comments = _comments(file)

    def lines(self) -> Iterator[str]:
        """Yield the page."""
        spots = self._file.source_code_info.location
        head = next(d for spot in spots for d in spot.leading_detached_comments)
        yield from (f"# {_TITLES[self._stem]}", "", f"`proto/v1/{self._stem}.proto`", "")
        yield escaped(_paragraphs(head))
        for i, service in enumerate(self._file.service):
            yield from ("", f"## Service {service.name}", "", escaped(self._comments[6, i]))
            for j, call in enumerate(service.method):
                yield from self._call(service.name, call, self._comments[6, i, 2, j])
        yield from ("", "## Messages")
        for i, message in enumerate(self._file.message_type):
            yield from self._message(message, (4, i))
        for i, enum in enumerate(self._file.enum_type):
            yield from ("", f"### {enum.name}", "", escaped(self._comments[5, i]), "")
            yield from ("| number | value | |", "| --- | --- | --- |")
            for j, value in enumerate(enum.value):
                said = cell(self._comments[5, i, 2, j])
                yield f"| {value.number} | `{value.name}` | {said} |"
        yield ""

    def _call(
        self, service: str, call: descriptor_pb2.MethodDescriptorProto, said: str
    ) -> Iterator[str]:
        method = _method(self._file, service, call.name)
        takes, gives = self._type(call.input_type), self._type(call.output_type)
        yield from ("", f"### {service}.{call.name}", "", escaped(said), "")
        yield (
            f"Takes {takes}, at most {method.request_bytes:,} bytes, signed by"
            f" {_signer(method)}; gives {gives} within {method.deadline_s} s."
        )

    def _message(
        self, message: descriptor_pb2.DescriptorProto, place: tuple[int, int]
    ) -> Iterator[str]:
        yield from ("", f"### {message.name}", "", escaped(self._comments[place]), "")
        for j, group in enumerate(message.oneof_decl):
            inside = [f for f in message.field if f.HasField("oneof_index") and f.oneof_index == j]
            members = [f"`{field.name}`" for field in inside]
            said = escaped(self._comments.get((*place, 8, j), ""))
            yield from (f"`{group.name}`, one of {', '.join(members)}: {said}", "")
        if message.field:
            yield from ("| number | field | type | |", "| --- | --- | --- | --- |")
        for j, field in enumerate(message.field):
            many = field.label == descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
            kind = _KINDS.get(field.type) or self._type(field.type_name)
            said = cell(self._comments[*place, 2, j])
            said = f"{'repeated ' if many else ''}{kind} | {said}"
            yield f"| {field.number} | `{field.name}` | {said} |"
        for gap in message.reserved_range:
            yield f"| {gap.start} | reserved | | |"

    def _type(self, full_name: str) -> str:
        name = full_name.rpartition(".")[2]
        home = self._homes[name]
        page = "" if home == self._stem else f"{home}.md"
        return f"[`{name}`]({page}#{_slug(name)})"


def _signer(method: Method) -> str:
    return {"nobody": "nobody", "member": "the member key", "client": "the client key"}[
        method.signer
    ]
