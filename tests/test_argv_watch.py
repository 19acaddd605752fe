"""The search of all arguments finds what it is made for: an invite, and a key out of a file."""

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from .argv_watch import ArgvWatch, keys_below

INVITE = "ofi1:" + "A" * 60


@pytest.mark.parametrize("way", ["an invite", "a master key", "a line of a key file", "nothing"])
def test_a_secret_among_the_arguments_is_found(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given to a process that does nothing; the report names the test and not the secret."""
    (tmp_path / "master.key").write_text("5" * 64)
    pem = ["-----BEGIN PRIVATE KEY-----", "MC4CAQAwBQYDK2VwBCIEI" + "x" * 43, "-----END"]
    (tmp_path / "ledger.pem").write_text("\n".join(pem))
    given = {"an invite": INVITE, "a master key": f"--key={'5' * 64}", "nothing": "6" * 64}
    watch = ArgvWatch()
    watch.begin()
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/test_argv_watch.py::planted (call)")

    subprocess.run([sys.executable, "-c", "0", given.get(way, pem[1])], check=True)

    leaks = watch.leaks(keys_below(tmp_path), but=())
    assert leaks == ([] if way == "nothing" else ["tests/test_argv_watch.py::planted"])


def test_what_a_certificate_shows_too_is_no_secret(tmp_path: Path) -> None:
    """An address carries the authority in base64: its lines, where they happen to end alike."""
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    certificate = "-----BEGIN CERTIFICATE-----\n" + "y" * 64 + "\n-----END CERTIFICATE-----\n"
    (tmp_path / "tls.pem").write_text(certificate + pem + certificate)
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    found = keys_below(tmp_path)

    assert found == set(pem.split("\n")[1:3])
    assert not any(base64.b64decode(line) in point for line in found)
