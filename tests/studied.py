"""The modules of the study, which is no package: its commands run in benchmarks/."""

import importlib
import sys
from types import ModuleType

from .doc_runner import ROOT

STUDY = ROOT / "benchmarks" / "study"
_PACKAGE = "studied_here"


def of_the_study(name: str) -> ModuleType:
    """Return a module of it, whatever else is called study where the tests run."""
    if _PACKAGE not in sys.modules:
        package = ModuleType(_PACKAGE)
        package.__path__ = [str(STUDY)]
        sys.modules[_PACKAGE] = package
    return importlib.import_module(f"{_PACKAGE}.{name}")
