"""The ``dp`` field of a contribution manifest: what a client claims, and signs, about its noise.

    (epsilon, delta) per image, add or remove one, for what was sent

The mechanism in integers, so that a reader can compute epsilon again with any accountant. ``q``,
``delta`` and the size of a batch follow from ``images``, a count rounded down to one digit, and not
from the owner's count, which one image more or less would change.

    mechanism  dp-sgd  ``steps`` times: each image drawn with probability q, its gradient scaled to
                       the norm C, the sum with Gaussian noise of deviation sigma C an entry
               mean    once: one vector of norm C at most an image, their sum with such noise;
                       epsilon is that of one Gaussian, exactly (arXiv:1805.06530)

Law: it is the client's own claim. Nobody else can check that the noise was drawn, so whoever shows
it says whose it is, in `said`'s words and no others. Source: security.md 4.5, 9.1, 9.3. Not here:
the accountant and the data sizes that are refused (client/dp_plan.py).
"""

from dataclasses import asdict, dataclass
from typing import Final, Literal, cast

from .fields import Fields, bad_field
from .promises import PER_IMAGE

Mechanism = Literal["dp-sgd", "mean"]
Accountant = Literal["rdp", "gaussian"]
_ACCOUNTANTS: Final[dict[Mechanism, Accountant]] = {"dp-sgd": "rdp", "mean": "gaussian"}
_SAID: Final = {"rdp": "RDP", "gaussian": "exact, one Gaussian"}
_AUDIT: Final = "benchmarks/dp_audit.py"
_MOST: Final = {
    "clip_milli": 10**9,
    "delta_e12": 10**12 - 1,
    "eps_milli": 10**6,
    "images": 10**12,
    "q_ppm": 10**6,
    "sigma_milli": 10**9,
    "steps": 10**6,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DpClaim:
    """One claim: thousandths, millionths and 1e-12ths of the quantities; ``clip_milli`` is C."""

    clip_milli: int
    delta_e12: int
    eps_milli: int
    images: int
    q_ppm: int
    sigma_milli: int  # noise of each entry, as a multiple of C
    steps: int
    mechanism: Mechanism = "dp-sgd"
    accountant: Accountant = "rdp"
    unit: Literal["image"] = "image"

    def body(self) -> dict[str, int | str]:
        """Return the object that stands in a signed body."""
        return asdict(self)

    @staticmethod
    def from_body(value: object) -> "DpClaim":
        """Return the claim of one object. Raises VerificationFailed ``bad-field``."""
        fields = Fields(value, "a DP claim", need=(*_MOST, "accountant", "mechanism", "unit"))
        fields.one_of("unit", ("image",))
        numbers = {name: fields.integer(name, 1, most) for name, most in _MOST.items()}
        mechanism = cast("Mechanism", fields.one_of("mechanism", tuple(_ACCOUNTANTS)))
        accountant = fields.one_of("accountant", (_ACCOUNTANTS[mechanism],))
        if mechanism == "mean" and (numbers["q_ppm"], numbers["steps"]) != (10**6, 1):
            raise bad_field("a DP claim of one mean draws every image, once")
        return DpClaim(
            clip_milli=numbers["clip_milli"],
            delta_e12=numbers["delta_e12"],
            eps_milli=numbers["eps_milli"],
            images=numbers["images"],
            q_ppm=numbers["q_ppm"],
            sigma_milli=numbers["sigma_milli"],
            steps=numbers["steps"],
            mechanism=mechanism,
            accountant=cast("Accountant", accountant),
        )

    @property
    def said(self) -> str:
        """The one sentence that may be said of it, filled in (security.md 9.1).

        >>> DpClaim(
        ...     clip_milli=1000, delta_e12=10**8, eps_milli=8000, images=1000, q_ppm=128000,
        ...     sigma_milli=2487, steps=1000,
        ... ).said.partition(", with")[0]
        '(8, 0.0001) per image, add or remove one, for what was sent'
        """
        epsilon, delta = f"{self.eps_milli / 1e3:g}", f"{self.delta_e12 / 1e12:.3g}"
        return PER_IMAGE.format(
            epsilon=epsilon, delta=delta, accountant=_SAID[self.accountant], audit=_AUDIT
        )
