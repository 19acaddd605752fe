"""The one error tree of OrthoFed.

    OrthoFedError              exit 1   failed: ours or the machine's
    |-- InputError             exit 2   what a person gave: an option, a folder, an image
    |   `-- SpecError          exit 2   a spec, base model, layer or rank that cannot work
    |-- Unreachable            exit 1   the other side did not answer
    |-- Refused                exit 3   the other side said no
    |   |-- LeaseLost          exit 3   the slot is no longer this client's at this fence
    |   `-- ContributionRejected  exit 3   the bytes of a contribution break a rule
    `-- VerificationFailed     exit 4   something signed, hashed or logged is not what it says it is

Every error says *what* (measured and allowed value), *why* (one clause) and *fix* (one imperative
sentence), and has a stable ``code`` for programs. `__main__.main` maps errors to exit codes;
proto/failure.py maps them to gRPC status and back. Source: house-style.md 2, rules 18 to 20.
"""


class OrthoFedError(Exception):
    """Something failed, and the text says what to do next."""

    exit_code = 1

    def __init__(self, what: str, *, why: str, fix: str, code: str) -> None:
        """Keep the three parts and the stable code.

        ``what`` names the measured and the allowed value, ``why`` is one clause, ``fix`` one
        imperative sentence; ``code`` is lower case with hyphens and never changes.
        """
        super().__init__(f"{what}\nwhy: {why}\nfix: {fix}")
        self.what = what
        self.why = why
        self.fix = fix
        self.code = code


class InputError(OrthoFedError):
    """What a person gave cannot be used."""

    exit_code = 2


class SpecError(InputError):
    """A federation spec, base model, layer or rank that cannot work."""


class Unreachable(OrthoFedError):
    """The other side did not answer."""


class Refused(OrthoFedError):
    """The other side said no."""

    exit_code = 3


class LeaseLost(Refused):
    """The slot is no longer this client's at this fence."""


class ContributionRejected(Refused):
    """The bytes of a contribution break a rule."""


class VerificationFailed(OrthoFedError):
    """Something signed, hashed or logged is not what it says it is."""

    exit_code = 4
