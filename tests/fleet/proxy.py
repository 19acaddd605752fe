"""The proxy example of deploy/, on ports and with certificates of a test."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
_EXAMPLE = Path(__file__).parents[2] / "deploy" / "nginx" / "fleet.conf"
_AROUND = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  include {folder}/fleet.conf;
}}
"""


def proxy_configuration(folder: Path, *, tls: Path, port: int, superlink: int) -> Path:
    """Write the example with this machine's ports and files; return the file for ``nginx -c``."""
    text = _EXAMPLE.read_text()
    for ours, theirs in (
        ("/etc/nginx/orthofed-fleet/", f"{tls}/"),
        ("listen 8443 ", f"listen 127.0.0.1:{port} "),
        ("https://127.0.0.1:8000;", f"https://127.0.0.1:{superlink};"),
    ):
        assert ours in text
        text = text.replace(ours, theirs)
    (folder / "fleet.conf").write_text(text)
    file = folder / "nginx.conf"
    file.write_text(_AROUND.format(folder=folder))
    return file


@contextmanager
def proxied(folder: Path, *, tls: Path, port: int, superlink: int) -> Iterator[None]:
    """Run nginx with the example until the block ends."""
    folder.mkdir()
    file = proxy_configuration(folder, tls=tls, port=port, superlink=superlink)
    words = ["-p", str(folder), "-c", str(file), "-e", "stderr"]
    with subprocess.Popen([str(NGINX), *words], stderr=subprocess.DEVNULL) as running:
        try:
            yield
        finally:
            running.terminate()
            running.wait(20)
