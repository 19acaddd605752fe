"""A federation whose only address is an IPv6 one: in brackets before a port, bare elsewhere."""

import json
import socket

import httpx
import pytest

from orthofed.client.home import Home
from orthofed.client.join import join

from .coordinator_process import Coordinator, run, wide_base


@pytest.mark.parametrize(
    ("given", "named"), [(("--address", "[::1]:{}"), "[::1]"), (("--hostname", "::1"), "::1")]
)
def test_an_ipv6_address_does_all_through(tmp_path, given, named):
    """Founded, served, invited by, joined and read over it, from all addresses of the machine too.

    Its certificate names the address and no host in brackets.
    """
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as free:
        port = free.getsockname()[1]
    base, folder = wide_base(tmp_path / "base"), tmp_path / "fed"
    fixed = ("--base", str(base), "--name", "tiny", "--reserve-mib", "1")
    options = [each.format(port) for each in given]
    run("coordinator", "init", str(folder), *fixed, *options)
    with Coordinator(folder) as coordinator:
        coordinator.address = f"[::]:{port}"
        coordinator.start("--web", "[::1]:0")
        invite, link = coordinator.invite(), coordinator.link()
        home = Home(tmp_path / "home")
        join(home, invite, url=None, patience_s=5)
        status = run("client", "status", "--home", str(tmp_path / "home"), "--json").stdout
        page = httpx.get(coordinator.said["page"])

    assert f'"{named}"' in (folder / "coordinator.toml").read_text()
    assert link.startswith(f"orthofed://[::1]:{port}/")
    assert json.loads(status)["address"] == f"[::1]:{port}"
    assert (page.status_code, "tiny" in page.text) == (200, True)
