"""Public keys of Flower nodes for tests, the same ones at each run."""

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CURVES = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())


def node_line(number: int, curve: ec.EllipticCurve = CURVES[1]) -> str:
    """Return the OpenSSH line of key ``number``, from 1, without a comment."""
    public = ec.derive_private_key(number, curve).public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
