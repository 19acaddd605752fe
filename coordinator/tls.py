"""The coordinator's own certificate authority and its server certificate.

Law: no plaintext and no switch that skips verification (T24). The invite carries the authority's
certificate, so nothing has to be bought; behind a public certificate an operator puts a proxy.
The server certificate is made anew at a start when it ends within 30 days or names other hosts;
clients pin the authority only, so they do not notice. Keys lie in ``keys/``, mode 0600.
"""

import datetime as dt
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..core.errors import InputError
from .fs import Fs

_CA_DAYS = 3_650
_SERVER_DAYS = 397  # what public authorities give at most
_RENEW_DAYS = 30


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM key and certificate chain for gRPC, and the authority's certificate in DER.

    ``client_ca``: PEM certificates of who signs client certificates; with it nobody without one
    gets past the handshake. It is one more door in front: requests are signed in every case.
    """

    key: bytes
    chain: bytes
    ca_der: bytes
    client_ca: bytes = b""


def make_authority(keys: Path, *, fs: Fs, now: dt.datetime) -> None:
    """Write a fresh authority's key and certificate to ``keys``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "OrthoFed coordinator")])
    public = key.public_key()
    certificate = (
        _builder(name, name, public, now, days=_CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    fs.write_whole(keys / "tls-ca.key", _pem_key(key), mode=0o600)
    fs.write_whole(keys / "tls-ca.pem", _pem(certificate))


def authority_der(keys: Path) -> bytes:
    """Return the authority's certificate as the invite carries it."""
    return _certificate(keys / "tls-ca.pem").public_bytes(serialization.Encoding.DER)


def certificate_until_s(keys: Path) -> float:
    """Return when the server's certificate ends, in Unix seconds; 0 when its file is damaged."""
    try:
        certificate = x509.load_pem_x509_certificate((keys / "tls-server.pem").read_bytes())
    except (OSError, ValueError):
        return 0
    return certificate.not_valid_after_utc.timestamp()


def server_tls(
    keys: Path, hostnames: tuple[str, ...], *, fs: Fs, now: dt.datetime, client_ca: str = ""
) -> ServerTls:
    """Return the server's key and chain for these hosts, made anew if need be.

    ``client_ca``: the PEM file of who signs client certificates, empty to ask for none.
    """
    authority = (keys / "tls-ca.pem").read_bytes()
    path = keys / "tls-server.pem"
    born = _certificate(keys / "tls-ca.pem").not_valid_before_utc
    # A clock before the authority's first hour is wrong: what it would sign is out of date already.
    if (
        not path.is_file()
        or _is_damaged(path)
        or (now >= born and not _still_good(path.read_bytes(), hostnames, now))
    ):
        _make_server(keys, hostnames, fs=fs, now=now)
    key, _, certificate = path.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    return ServerTls(
        key=key,
        chain=b"-----BEGIN CERTIFICATE-----" + certificate + authority,
        ca_der=authority_der(keys),
        client_ca=_client_authority(client_ca),
    )


def _client_authority(path: str) -> bytes:
    """Return the PEM file of ``client_ca``, empty for an empty path.

    Raises InputError: it holds no certificate, or one that signs none.
    """
    if not path:
        return b""
    try:
        pem = Path(path).read_bytes()
        found = x509.load_pem_x509_certificates(pem)
        signs = [
            each.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            for each in found
        ]
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise _bad_client_ca(path, str(error)) from error
    if not all(signs):
        raise _bad_client_ca(path, "a certificate that signs no others")
    return pem


def _bad_client_ca(path: str, says: str) -> InputError:
    return InputError(
        f"`client_ca` {path}: {says}",
        why="it names a PEM file with the certificates of who signs client certificates",
        fix="correct `client_ca` in coordinator.toml, or leave it empty to ask for none",
        code="bad-client-ca",
    )


def _make_server(keys: Path, hostnames: tuple[str, ...], *, fs: Fs, now: dt.datetime) -> None:
    """Write key and certificate as one file, so that no crash leaves two that do not match."""
    ca, ca_key = _certificate(keys / "tls-ca.pem"), _authority_key(keys)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostnames[0][:64])])
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    certificate = (
        _builder(name, ca.subject, key.public_key(), now, days=_SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(hostnames)), critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    fs.write_whole(keys / "tls-server.pem", _pem_key(key) + _pem(certificate), mode=0o600)


def tls_faults(keys: Path) -> Iterator[tuple[str, str]]:
    """Yield the files of authority and server that cannot be used, and what is wrong with each."""
    try:
        known = _certificate(keys / "tls-ca.pem").public_key()
    except InputError as error:
        yield "tls-ca.pem", error.what
        known = None
    server = keys / "tls-server.pem"
    if (keys / "tls-ca.key").is_file() or not server.is_file():
        try:
            mine = _authority_key(keys).public_key()
        except InputError as error:
            yield "tls-ca.key", error.what
        else:
            if known is not None and known != mine:
                yield "tls-ca.key", "is not the key of the certificate tls-ca.pem"
    if server.is_file() and _is_damaged(server):
        yield "tls-server.pem", "cannot be read: the next start makes it anew"


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError as error:
        raise _bad_file(path, "is missing") from error
    except ValueError as error:
        raise _bad_file(path, "cannot be read as a certificate") from error


def _authority_key(keys: Path) -> ec.EllipticCurvePrivateKey:
    path = keys / "tls-ca.key"
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError as error:
        raise _bad_file(path, "is missing") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _bad_file(path, "cannot be read as a key without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _bad_file(path, "holds another kind of key than one on the curve P-256")
    return key


def _is_damaged(path: Path) -> bool:
    """Return whether a server's file is not a key and its certificate."""
    pem = path.read_bytes()
    try:
        key = serialization.load_pem_private_key(pem, password=None)
        return key.public_key() != x509.load_pem_x509_certificate(pem).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return True


def _bad_file(path: Path, what: str) -> InputError:
    return InputError(
        f"{path.name} {what}",
        why="invites and links pin this authority, and it signs the server's certificate",
        fix=f"put {path} back from your copy of the keys",
        code="bad-key-file",
    )


def _still_good(pem: bytes, hostnames: tuple[str, ...], now: dt.datetime) -> bool:
    certificate = x509.load_pem_x509_certificate(pem)
    left = certificate.not_valid_after_utc - now
    started = certificate.not_valid_before_utc <= now  # or this clock was ahead when it was made
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return started and left.days > _RENEW_DAYS and list(names) == _names(hostnames)


def _names(hostnames: tuple[str, ...]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hostnames:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host.strip("[]"))))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    *,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))  # a client's clock may be behind
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
