"""Every example in a docstring runs and prints what it shows."""

import doctest
import importlib
import importlib.util
import pkgutil

import pytest

import orthofed

MODULES = [
    module.name
    for module in pkgutil.walk_packages(orthofed.__path__, "orthofed.")
    if module.name.split(".")[1] in {"core", "proto", "fleet", "coordinator", "client", "web"}
]
FLOWER = importlib.util.find_spec("flwr") is not None


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    """`--doctest-modules` would import a second copy under the checkout's name."""
    if name.endswith(".flower") and not FLOWER:
        pytest.skip("flwr is an extra, and not here")
    failed, _ = doctest.testmod(importlib.import_module(name))

    assert failed == 0
