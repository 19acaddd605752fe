"""T26: the coordinator loads what is on its list and nothing else, so that is all to be trusted."""

import subprocess
import sys

import pytest

ALLOWED = {
    "orthofed",
    "numpy",  # arithmetic
    "jaxtyping",  # shapes in annotations
    "grpc",  # the wire
    "prometheus_client",  # /metrics
    "grpc_health",
    "grpc_reflection",
    "grpc_tools",  # looked for by grpc itself, where developers have it
    "cython_runtime",
    "google",  # protobuf's messages
    "cryptography",  # keys and certificates
    "_cffi_backend",
    "_openssl",
    "typer",  # the command line
    "click",
    "rich",
    "shellingham",
    "markdown_it",
    "mdurl",
    "pygments",
    "annotated_doc",
    "typing_extensions",
}
"""Third-party packages that a running coordinator may have in memory."""
PROGRAM = """
import sys
before = set(sys.modules)
from orthofed.coordinator import cli, daemon, publisher, releasing, restore, backup, doctor
from orthofed.coordinator import server, service
loaded = set(sys.modules) - before
print(" ".join(sorted({name.partition(".")[0] for name in loaded})))
"""


def loaded(program: str) -> set[str]:
    """Return the packages that a fresh process loads, without Python's own."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )
    return {name for name in done.stdout.split() if name not in sys.stdlib_module_names}


def test_the_coordinator_loads_only_what_is_on_its_list():
    """A new dependency of the coordinator is a decision, not an accident."""
    found = {name for name in loaded(PROGRAM) if not name.startswith(("__editable__", "_cython_"))}

    assert found <= ALLOWED, f"not on the list: {sorted(found - ALLOWED)}"
    assert {"grpc", "numpy", "cryptography"} <= found, "the program loads the real thing"


@pytest.mark.parametrize("package", ["torch", "PIL", "pytest"])
def test_the_list_would_notice(package: str):
    """One import more, and the first test fails."""
    more = PROGRAM.replace("\nfrom orthofed", f"\nimport {package}\nfrom orthofed", 1)

    assert package in loaded(more) - ALLOWED
