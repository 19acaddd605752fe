"""The public key of a Flower node: what OpenSSH writes, one spelling, no comment."""

import base64

import pytest

from orthofed.core.errors import InputError
from orthofed.core.node_key import MOST_CHARACTERS, node_key

from .node_lines import CURVES, node_line

LINE = node_line(7)
KIND, BYTES = LINE.split()


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)
def test_the_comment_is_dropped(curve):
    """A file of ssh-keygen names user and machine; the key alone is left, within its bound."""
    line = node_line(3, curve)

    found = node_key(f"{line} ana@kitchen-laptop\n")

    assert found == line
    assert len(found) <= MOST_CHARACTERS


def altered(change) -> str:
    return f"{KIND} {base64.b64encode(change(base64.b64decode(BYTES))).decode()}"


@pytest.mark.parametrize(
    "line",
    [
        "",
        KIND,
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5WxgvGLYkGq6nJ+ZoVCUTzwzGTBVDsvpHBDfzVUCpq",
        BYTES,
        f"ecdsa-sha2-nistp256 {BYTES}",
        f"{KIND} {BYTES[:-8]}",
        f"{KIND} {BYTES[:-1]}",
        altered(lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        altered(lambda data: data + b"\0"),
        f"{KIND} {BYTES[:-3]}{chr(ord(BYTES[-3]) + 1)}==",
        f"{KIND} \udcff",
        f"{KIND} {BYTES} {'x' * 4096}",
    ],
    ids=[
        *("empty", "kind-alone", "ed25519", "bytes-alone", "another-curve", "cut", "bad-base64"),
        *("off-the-curve", "a-byte-more", "loose-base64", "no-text", "huge"),
    ],
)
def test_what_is_no_such_key_is_refused(line):
    """Each with its code and the command that makes a good one."""
    with pytest.raises(InputError) as refused:
        node_key(line)

    assert refused.value.code == "bad-node-key"
    assert "ssh-keygen -t ecdsa" in refused.value.fix
