"""The text that lets somebody teach a concept that another owner began, and what it has to match.

    ofs1: + base64url(CJ{concept, noun, seed, share, triggers, v, vectors})

``seed`` is the Ed25519 seed of the share's key: whoever has the text can join the concept, as often
as the share says, so it is a secret like an invite. Concept, words and class noun come with it, so
that every owner trains the same words from the same start. Law: ``from_text(to_text())`` gives the
same value; the share's signature is checked on reading. Source: core/share.py, docs/adr/0032.
"""

from dataclasses import dataclass, field
from typing import Final, cast

from ..core.canonical import decode_text, encode_text
from ..core.errors import InputError
from ..core.fields import Fields, bad_field
from ..core.keys import SigningKey
from ..core.secret_word import read_word, written_word
from ..core.share import Share

PREFIX: Final = "ofs1:"
_MOST_TRIGGERS: Final = 16


@dataclass(frozen=True, slots=True)
class ShareText:
    """A share, its secret, and what the concept is taught as."""

    share: Share
    concept: str
    triggers: tuple[str, ...]
    vectors: tuple[int, ...]
    noun: str
    seed: bytes = field(repr=False)

    @property
    def secret(self) -> SigningKey:
        """The key that signs beside the client key of whoever joins."""
        return SigningKey.from_seed(self.seed)

    def to_text(self) -> str:
        """Return it as one word to paste."""
        body: dict[str, object] = {
            "concept": self.concept,
            "noun": encode_text(self.noun),
            "seed": self.seed.hex(),
            "share": self.share.value,
            "triggers": list(self.triggers),
            "v": 1,
            "vectors": list(self.vectors),
        }
        return written_word(PREFIX, body)

    @classmethod
    def from_text(cls, text: str) -> "ShareText":
        """Return the share that a person pasted; its text is never repeated in an error (T27).

        Raises InputError ``bad-share-text``.
        """
        found = read_word(text, PREFIX, cls._from_body, bad=_bad)
        if found.secret.public_hex != found.share.key:
            raise _bad("with another one's secret")
        return found

    @classmethod
    def _from_body(cls, body: object) -> "ShareText":
        names = ("concept", "noun", "seed", "share", "triggers", "v", "vectors")
        fields = Fields(body, "a share's text", need=names)
        fields.version()
        triggers = fields.items("triggers", least=1, most=_MOST_TRIGGERS)
        vectors = fields.items("vectors", least=len(triggers), most=len(triggers))
        if not all(isinstance(each, str) for each in triggers) or not all(
            type(each) is int and each > 0 for each in vectors
        ):
            raise bad_field("the words of a share are of another form")
        return cls(
            share=Share.from_value(fields.raw("share")),
            concept=fields.text("concept", most=64),
            triggers=tuple(cast("list[str]", triggers)),
            vectors=tuple(cast("list[int]", vectors)),
            noun=decode_text(fields.text("noun")),
            seed=bytes.fromhex(fields.hex("seed")),
        )


def _bad(what: str) -> InputError:
    return InputError(
        f"a share {what} cannot be read",
        why=f"a share is one word that starts with {PREFIX}",
        fix="copy the whole line that `orthofed client share` printed",
        code="bad-share-text",
    )
