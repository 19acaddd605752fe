"""T24: what a client does with every kind of certificate, and a server with every kind of client.

The real server (coordinator/server.py) with certificates made for each case, the real client
(`orthofed client join`). A bad certificate ends the call at once, with exit code 4, and not one
byte of a request has left. No switch skips any of it.
"""

import ast
import datetime as dt
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import grpc
import pytest
import typer

from orthofed.__main__ import app
from orthofed.client.client_certificate import ClientCertificate
from orthofed.client.home import Home
from orthofed.client.join import join
from orthofed.client.status import status_of
from orthofed.coordinator.call import Call
from orthofed.coordinator.desk import Desk
from orthofed.coordinator.folder import DataFolder, Settings
from orthofed.coordinator.house import House
from orthofed.coordinator.server import Server
from orthofed.coordinator.service import Service
from orthofed.coordinator.tls import ServerTls, server_tls
from orthofed.core.errors import InputError, OrthoFedError, Unreachable, VerificationFailed
from orthofed.core.invite import Invite
from orthofed.proto import methods

from . import certificates
from .certificates import DAY, NOW, Certificate
from .cutting_proxy import CuttingProxy, Fate
from .serving import FastFs, TestClock, founded

ROOT = Path(__file__).parent.parent
AUTHORITY = certificates.authority()
OTHER = certificates.authority("another authority")
GOOD = certificates.server(AUTHORITY)


class Door:
    """A coordinator behind one certificate; ``calls`` is what got through."""

    def __init__(self, house: House, tls: ServerTls) -> None:
        self.calls: list[str] = []
        service = Service(house)

        def answer(call: Call) -> bytes:
            self.calls.append(call.method.path)
            return service.answer(call)

        self.server = Server(answer, listen="127.0.0.1:0", tls=tls, clock=house.clock)
        self.address = f"127.0.0.1:{self.server.port}"
        house.fs.write_whole(house.folder.address_file, self.address.encode())
        invite = Desk(house).invite(100, 7, operator=False)["invite"]
        self.invite = replace(Invite.from_text(invite), addr=self.address, ca=AUTHORITY.der)

    def join(self, home: Path, **more: Any) -> Home:
        place = Home.at(home)
        join(place, self.invite.to_text(), url=None, patience_s=3, **more)
        return place


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = founded(tmp_path_factory.mktemp("tls"))
    with folder.locked(), House(folder, fs=FastFs(), clock=TestClock()) as opened:
        yield opened


@pytest.fixture
def door(house: House) -> Iterator[Callable[..., Door]]:
    """Open doors; they are closed after the test."""
    opened: list[Door] = []

    def make(certificate: Certificate, *, client_ca: bytes = b"") -> Door:
        tls = ServerTls(certificate.key, certificate.pem, AUTHORITY.der, client_ca)
        opened.append(Door(house, tls))
        return opened[-1]

    yield make
    for each in opened:
        each.server.stop()


BAD = {
    "expired": (
        certificates.server(AUTHORITY, end=NOW - DAY / 2),
        ("has expired", "check the date and time here"),
    ),
    "not yet valid": (
        certificates.server(AUTHORITY, start=NOW + DAY / 2),
        ("is not valid yet", "check the date and time here"),
    ),
    "wrong host": (
        certificates.server(AUTHORITY, hosts=("example.org",)),
        ("is for another host", "use the address of the invite"),
    ),
    "wrong address": (
        certificates.server(AUTHORITY, hosts=("127.0.0.2", "localhost")),
        ("is for another host", "use the address of the invite"),
    ),
    "no host": (
        certificates.server(AUTHORITY, hosts=()),
        ("is for another host", "use the address of the invite"),
    ),
    "another authority": (
        certificates.server(OTHER),
        ("is not the one that was pinned", "ask the operator for a new invite"),
    ),
    "self-signed": (
        certificates.server(None),
        ("is signed by itself alone", "ask the operator for a new invite"),
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_certificate_that_does_not_verify_ends_the_call_at_once(case, door, tmp_path):
    """Exit code 4; what, why and fix fit the case; no call got through and nothing is kept."""
    certificate, (says, fix) = BAD[case]
    opened, home = door(certificate), tmp_path / "home"
    start = time.monotonic()

    with pytest.raises(VerificationFailed) as refused:
        opened.join(home)

    error = refused.value
    assert (error.exit_code, error.code) == (4, "tls-untrusted")
    assert opened.address in error.what
    assert says in error.what
    assert error.why
    assert fix in error.fix
    assert time.monotonic() - start < 2.5, "it is not tried again"
    assert opened.calls == []
    assert not (home / "federation.json").exists()


def test_the_right_certificate_is_taken(door, tmp_path):
    """The control: same server, same client, a good certificate."""
    opened = door(GOOD)

    home = opened.join(tmp_path / "home")

    assert opened.calls == [methods.GET_SPEC.path, methods.JOIN.path]
    assert home.membership().ca == AUTHORITY.der


def test_a_home_that_pinned_an_authority_does_not_take_the_systems(house, tmp_path):
    """An invite without a CA means the system's roots, and ours is none of them."""
    opened = Door(house, ServerTls(GOOD.key, GOOD.pem, AUTHORITY.der))
    try:
        opened.invite = replace(opened.invite, ca=b"")
        with pytest.raises(VerificationFailed) as refused:
            opened.join(tmp_path / "home")
    finally:
        opened.server.stop()

    assert refused.value.code == "tls-untrusted"
    assert opened.calls == []


@pytest.mark.parametrize("shown", ["none", "of another authority", "self-signed"])
def test_a_door_that_asks_for_a_certificate_hears_nobody_else(shown, door, tmp_path):
    """Required and missing, or wrong: nothing is answered, and the error says what may be asked."""
    opened, more = door(GOOD, client_ca=OTHER.pem), {}
    if shown != "none":
        wrong = certificates.client(AUTHORITY if shown == "of another authority" else None)
        (tmp_path / "client.pem").write_bytes(wrong.key + wrong.pem)
        more = {"certificate": tmp_path / "client.pem"}

    with pytest.raises(Unreachable) as refused:
        opened.join(tmp_path / "home", **more)

    assert refused.value.exit_code == 1
    assert "--client-certificate" in refused.value.fix
    assert opened.calls == []
    assert not (tmp_path / "home" / "tls-client.pem").exists()


def test_with_the_right_client_certificate_the_door_opens_and_signatures_still_count(
    door, tmp_path
):
    """One more door, no more: the home keeps the file, mode 0600, and shows it from then on."""
    opened, mine = door(GOOD, client_ca=OTHER.pem), certificates.client(OTHER)
    (tmp_path / "client.pem").write_bytes(mine.pem + mine.key)

    home = opened.join(tmp_path / "home", certificate=tmp_path / "client.pem")
    again = opened.join(tmp_path / "home")

    kept = home.folder / "tls-client.pem"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert again.certificate() == ClientCertificate.parse(mine.pem + mine.key)
    assert status_of(home)["concepts"] == []
    assert opened.calls.count(methods.JOIN.path) == 2
    assert raw_call(opened, mine) == "UNAUTHENTICATED"


def raw_call(opened: Door, mine: Certificate) -> str:
    """Renew a lease without a signature, through the open door; return the status."""
    credentials = grpc.ssl_channel_credentials(AUTHORITY.pem, mine.key, mine.pem)
    with grpc.secure_channel(opened.address, credentials) as channel:
        try:
            channel.unary_unary(methods.RENEW.path)(b"\x10\x01", timeout=5)
        except grpc.RpcError as error:
            failed: Any = error
            return failed.code().name
    return "OK"


def test_plain_text_to_a_tls_port_gets_no_answer(door):
    """HTTP/2 and HTTP/1 in the clear: the connection is closed, and no call is seen."""
    opened = door(GOOD)
    for said in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), b"GET / HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", opened.server.port), 10) as plain:
            plain.sendall(said)
            plain.settimeout(15)
            heard = plain.recv(4096)
            assert b"HTTP" not in heard
    with grpc.insecure_channel(opened.address) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(methods.GET_SPEC.path)(b"", timeout=5)
    failed: Any = refused.value

    assert failed.code().name in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert opened.calls == []


@contextmanager
def plain_server() -> Iterator[str]:
    """Serve gRPC in the clear."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_a_client_never_speaks_in_the_clear(door, tmp_path):
    """TLS to a plain port, on loopback too: exit code 4, soon, and no request has left."""
    opened = door(GOOD)
    with plain_server() as address:
        opened.invite = replace(opened.invite, addr=address)

        with pytest.raises(VerificationFailed) as refused:
            opened.join(tmp_path / "home")

    assert (refused.value.exit_code, refused.value.code) == (4, "not-tls")
    assert "speaks no TLS" in refused.value.what
    assert refused.value.fix


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        (ssl.TLSVersion.TLSv1, False),
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of old versions, which are the point
def test_tls_1_2_and_1_3_are_taken_and_nothing_older(version, taken, door):
    """A client that offers one version only; security.md 3."""
    opened = door(GOOD)
    context = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
    context.set_alpn_protocols(["h2"])
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # or our own side refuses the old ones first
    context.minimum_version = context.maximum_version = version

    spoken = None
    with (
        socket.create_connection(("127.0.0.1", opened.server.port), 10) as raw,
        pytest.raises(ssl.SSLError) if not taken else nothing(),
        context.wrap_socket(raw, server_hostname="127.0.0.1") as tls,
    ):
        spoken = tls.version()

    assert spoken == ({"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name] if taken else None)


@contextmanager
def nothing() -> Iterator[None]:
    yield


def test_the_command_prints_the_case_and_ends_with_its_code(door, tmp_path):
    """`orthofed client join --json` against an expired certificate: one object, exit code 4."""
    opened = door(BAD["expired"][0])
    command = [sys.executable, "-P", "-m", "orthofed", "client", "join", "--json"]
    file = tmp_path / "invite.txt"
    file.write_text(opened.invite.to_text())
    words = ["--invite", str(file), "--home", str(tmp_path / "home")]

    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)

    assert done.returncode == 4
    assert json.loads(done.stdout)["error"]["code"] == "tls-untrusted"
    assert "has expired" in done.stderr
    assert "why:" in done.stderr
    assert "fix:" in done.stderr


def sources() -> Iterator[tuple[str, ast.AST]]:
    for package in ("client", "coordinator", "core", "proto"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                yield str(path.relative_to(ROOT)), node


SWITCHES = {
    "insecure_channel",
    "add_insecure_port",
    "insecure_server_credentials",
    "local_channel_credentials",
    "local_server_credentials",
    "CERT_NONE",
    "_create_unverified_context",
    "check_hostname",
    "verify_mode",
    "ssl_target_name_override",
    "grpc.ssl_target_name_override",
    "grpc.default_authority",
}
"""Every way that grpc and ssl know to speak in the clear or to look away."""


def switches_in(nodes: Iterator[tuple[str, ast.AST]]) -> list[tuple[str, str]]:
    found = []
    for where, node in nodes:
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name):
                word = name
            case ast.Constant(value=str(text)):
                word = text
            case ast.keyword(arg="verify", value=ast.Constant(value=False)):
                word = "CERT_NONE"
            case _:
                continue
        if word in SWITCHES:
            found.append((where, word))
    return found


def test_no_switch_skips_verification():
    """No call that speaks in the clear, no name that looks away, no option or setting for it."""
    options = [
        option
        for command in commands(typer.main.get_command(app))
        for parameter in command.params
        for option in parameter.opts
    ]
    settings = Settings(base=Path("base")).to_toml()

    assert switches_in(sources()) == []
    for word in ("insecure", "verify=", "skip", "no-check", "trust-all", "plaintext", "no-tls"):
        assert not [option for option in options if word in option]
        assert word not in settings
    assert "client_ca" in settings


def commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from commands(each)


@pytest.mark.parametrize(
    "line",
    [
        'grpc.insecure_channel("x")',
        "context.check_hostname = False",
        'options = [("grpc.ssl_target_name_override", "x")]',
        "requests.get(url, verify=False)",
    ],
)
def test_a_switch_would_be_found(line):
    """The guard itself."""
    assert switches_in(("here", node) for node in ast.walk(ast.parse(line)))


CLIENT = certificates.client(OTHER)
NO_CERTIFICATE = {
    "empty": b"",
    "a certificate without its key": CLIENT.pem,
    "a key without its certificate": CLIENT.key,
    "another one's key": CLIENT.pem + certificates.client(OTHER).key,
    "two keys": CLIENT.pem + CLIENT.key + CLIENT.key,
    "damaged": CLIENT.key + CLIENT.pem.replace(b"MII", b"AAA", 1),
    "binary": bytes(range(256)) * 8,
}


@pytest.mark.parametrize("case", NO_CERTIFICATE)
def test_a_file_that_is_no_client_certificate_is_wrong_usage(case, door, tmp_path):
    """Exit code 2 with the way to make one; nothing is asked and nothing kept."""
    (tmp_path / "client.pem").write_bytes(NO_CERTIFICATE[case])
    opened = door(GOOD)

    with pytest.raises(InputError) as refused:
        opened.join(tmp_path / "home", certificate=tmp_path / "client.pem")

    assert (refused.value.exit_code, refused.value.code) == (2, "bad-client-certificate")
    assert "cat key.pem cert.pem" in refused.value.fix
    assert opened.calls == []


@pytest.mark.parametrize("case", ["absent", "no certificate", "a certificate that signs nothing"])
def test_a_client_ca_that_cannot_be_one_ends_the_start(case, tmp_path):
    """`client_ca` in coordinator.toml: told at the start, never ignored."""
    path = tmp_path / "clients.pem"
    if case != "absent":
        path.write_bytes(b"text" if case == "no certificate" else CLIENT.pem)
    folder = founded(tmp_path)

    with pytest.raises(OrthoFedError) as refused:
        server_tls(folder.keys, ("x",), fs=FastFs(), now=NOW, client_ca=str(path))

    assert refused.value.code == "bad-client-ca"
    assert str(path) in refused.value.what


def test_the_setting_is_read_from_the_file_and_asks_for_certificates(tmp_path):
    """coordinator.toml says client_ca; what the server then shows asks for one."""
    folder = founded(tmp_path)
    (tmp_path / "clients.pem").write_bytes(OTHER.pem)
    toml = tmp_path / "fed" / "coordinator.toml"
    asked = f'client_ca = "{tmp_path}/clients.pem"'
    toml.write_text(toml.read_text().replace('client_ca = ""', asked))

    settings = DataFolder.open(tmp_path / "fed").settings()
    now = dt.datetime.now(dt.UTC)
    tls = server_tls(folder.keys, ("x",), fs=FastFs(), now=now, client_ca=settings.client_ca)

    assert tls.client_ca == OTHER.pem


def test_a_byte_that_the_line_changed_is_not_taken_for_another_program(door, tmp_path):
    """The version in the server's first record is flipped, once: tried again, and it works."""
    opened = door(GOOD)
    fates = iter([Fate("down", 1, "damage")])
    with CuttingProxy(opened.address, lambda: next(fates, None)) as line:
        opened.invite = replace(opened.invite, addr=line.address)

        opened.join(tmp_path / "home")

        assert line.fates == ["damage"]
