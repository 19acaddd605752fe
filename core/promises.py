"""What OrthoFed says about privacy, word for word: these sentences and no others.

Law: README, commands, pages and cards say about privacy only what stands here, and each sentence
has its test in tests/privacy_claims/. Source: security.md 9.1.
"""

from typing import Final

NEVER_LEAVE: Final = (
    "Images, captions and logs never leave the client: no message can carry them, and the egress"
    " gate shows every byte."
)
MAY_REVEAL: Final = (
    "A published concept can be prompted by anyone and may reveal training images. With few images"
    " assume it does."
)
AFTER_WITHDRAWAL: Final = (
    "After a withdrawal the next release is byte-identical to one that never had it."
)
COPIES_REMAIN: Final = "Copies already downloaded remain."
"""Stands beside ``AFTER_WITHDRAWAL`` wherever a withdrawal is offered or told."""
NAMED_READ: Final = "A private slot is readable by the key holders you named."
PER_IMAGE: Final = (
    "({epsilon}, {delta}) per image, add or remove one, for what was sent, with this accountant"
    " ({accountant}) and this audit ({audit})."
)
