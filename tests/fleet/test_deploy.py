"""What deploy/ says of the fleet: hardened units, and a proxy that nginx takes."""

import shutil
import subprocess
from pathlib import Path

import pytest

from ..certificates import authority, server
from .proxy import NGINX, proxy_configuration

UNITS = Path(__file__).parents[2] / "deploy"
ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze here")
@pytest.mark.parametrize("name", ["orthofed-fleet", "orthofed-courier"])
def test_the_fleets_units_leave_delivered_code_little_to_harm(name: str) -> None:
    """Exposure at most 2.0 of 10, by systemd's own rules; no device, no home, no other network."""
    unit = UNITS / f"{name}.service"

    done = subprocess.run(
        [str(ANALYZE), "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    text = unit.read_text()
    for line in ("IPAddressDeny=any", "PrivateDevices=true", "ProtectHome=true"):
        assert f"\n{line}\n" in text


@pytest.mark.skipif(NGINX is None, reason="there is no nginx here")
def test_nginx_takes_the_proxy_example(tmp_path: Path) -> None:
    """With the paths and ports of this machine put in."""
    ca = authority()
    made = server(ca)
    for name, data in (("link.crt", made.pem), ("link.key", made.key), ("tls-ca.pem", ca.pem)):
        (tmp_path / name).write_bytes(data)
    file = proxy_configuration(tmp_path, tls=tmp_path, port=18_443, superlink=18_000)

    done = subprocess.run(
        [str(NGINX), "-t", "-p", str(tmp_path), "-c", str(file), "-e", "stderr"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
