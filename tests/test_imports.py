"""The import contracts, seen from outside: what a started process has really loaded."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "transformers", "peft", "accelerate")


def _loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    ["orthofed.coordinator.server", "orthofed.coordinator.publisher", "orthofed.coordinator.cli"],
)
def test_the_coordinator_process_never_loads_torch(module: str) -> None:
    """T26: the operator's process starts in half a second and cannot run a model."""
    assert not _loaded_by(f"import {module}") & set(HEAVY)


def test_help_loads_nothing_slow() -> None:
    """`orthofed --help` answers at once: no numpy, no grpc, no torch (product.md 5)."""
    loaded = _loaded_by("import orthofed.__main__")

    assert not loaded & {*HEAVY, "numpy", "grpc", "cryptography", "google.protobuf"}
