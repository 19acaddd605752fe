"""Which extra of OrthoFed brings a package that is not installed: an error that says what to run.

An install without extras is the coordinator's, and that of who pulls and verifies. Read from the
package's own metadata, so what pyproject.toml says is what is told. Not here: packages that a
setting asks for, which are named with that setting.
"""

import re
from importlib.metadata import requires
from typing import Final

from ..core.errors import InputError

_OTHER_NAMES: Final = {"PIL": "pillow", "dp_accounting": "dp-accounting"}
"""Modules that are not called as their package is."""
_OURS: Final = frozenset({"dev", "docs", "faults"})
"""Extras of those who change OrthoFed: no user's command needs them."""


def missing_extra(error: ModuleNotFoundError) -> InputError:
    """Return what to install. Raises ``error`` itself: no extra brings that module."""
    module = (error.name or "").partition(".")[0]
    package = _OTHER_NAMES.get(module, module)
    for line in requires("orthofed") or ():
        extra = re.search(r"extra == ['\"]([a-z0-9]+)['\"]", line)
        name = re.match(r"[A-Za-z0-9._-]+", line)
        if extra and extra[1] not in _OURS and name and name[0] == package:
            return InputError(
                f"the package {package} is not installed",
                why=f"this needs the extra {extra[1]}, which a plain install leaves out",
                fix=f'run pip install "orthofed[{extra[1]}]"',
                code="extra-missing",
            )
    raise error
