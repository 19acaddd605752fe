"""The signed word that takes a contribution out: its own client's, alone, and of this kind."""

import json

import pytest

from orthofed.core.document import from_value, sign
from orthofed.core.errors import VerificationFailed
from orthofed.core.keys import SigningKey
from orthofed.core.withdrawal import Withdrawal

CLIENT, OTHER = (SigningKey.from_seed(bytes([n]) * 32) for n in (1, 2))
SAID = Withdrawal(client=CLIENT.public_hex, fed="a" * 64, leaf=7, log="b" * 64, t=1_790_000_000)


def read(data: bytes, kind: str = "withdrawal") -> Withdrawal:
    return Withdrawal.from_document(from_value(json.loads(data), kind=kind))


def test_a_word_says_what_was_signed() -> None:
    assert read(sign("withdrawal", SAID.body(), [CLIENT]).to_bytes()) == SAID


@pytest.mark.parametrize("signers", [[OTHER], [CLIENT, OTHER]], ids=["another", "both"])
def test_a_word_that_its_client_did_not_sign_alone_is_refused(signers: list[SigningKey]) -> None:
    """T2: another's signature is none, and one beside the client's says that it was passed on."""
    with pytest.raises(VerificationFailed, match="signed by its client key alone"):
        read(sign("withdrawal", SAID.body(), signers).to_bytes())


def test_a_word_of_another_kind_is_refused() -> None:
    """The same body signed as something else: kinds keep signatures from serving twice."""
    with pytest.raises(VerificationFailed, match="signed by its client key alone"):
        read(sign("lease", SAID.body(), [CLIENT]).to_bytes(), kind="lease")


def test_every_byte_of_the_signature_counts() -> None:
    """T4: one bit of the signature, or of what it covers."""
    whole = json.loads(sign("withdrawal", SAID.body(), [CLIENT]).to_bytes())
    signature = bytes.fromhex(whole["sigs"][0]["sig"])
    for place in range(len(signature)):
        forged = signature[:place] + bytes([signature[place] ^ 1]) + signature[place + 1 :]
        changed = {**whole, "sigs": [{**whole["sigs"][0], "sig": forged.hex()}]}
        with pytest.raises(VerificationFailed):
            read(json.dumps(changed).encode())
    with pytest.raises(VerificationFailed):
        read(json.dumps({**whole, "body": {**whole["body"], "leaf": 8}}).encode())
