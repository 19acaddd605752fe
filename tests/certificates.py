"""Certificates of every kind, good and bad, for 127.0.0.1 or for somebody else."""

import datetime as dt
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key."""

    certificate: x509.Certificate
    private: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def key(self) -> bytes:
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def authority(name: str = "authority") -> Certificate:
    """Return a certificate authority of its own."""
    return _made(name, None, ca=True, hosts=(), start=NOW - 2 * DAY, end=NOW + 100 * DAY)


def server(
    by: Certificate | None,
    *,
    hosts: tuple[str, ...] = ("127.0.0.1",),
    start: dt.datetime = NOW - DAY,
    end: dt.datetime = NOW + DAY,
) -> Certificate:
    """Return a certificate for ``hosts``, signed ``by`` an authority or by itself."""
    return _made("server", by, ca=False, hosts=hosts, start=start, end=end)


def client(by: Certificate | None) -> Certificate:
    """Return a client's certificate."""
    return _made("client", by, ca=False, hosts=(), start=NOW - DAY, end=NOW + DAY)


def _made(
    name: str,
    by: Certificate | None,
    *,
    ca: bool,
    hosts: tuple[str, ...],
    start: dt.datetime,
    end: dt.datetime,
) -> Certificate:
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.certificate.subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if hosts:
        names = [_name(host) for host in hosts]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Certificate(
        builder.sign(private if by is None else by.private, hashes.SHA256()), private
    )


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
