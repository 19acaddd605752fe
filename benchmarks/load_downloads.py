"""The same file from the coordinator and from nginx, read by the same number of threads.

Both over TLS with the coordinator's certificate, in pieces of 1 MiB, thrown away as they come. The
readers are Python on the same cores; nginx is started with one worker and a temporary folder.
"""

import http.client
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from load_federation import FILE, Federation

from orthofed.proto import methods, wire

_PIECE = methods.READ_BYTES


def downloads(federation: Federation, *, readers: int) -> dict[str, Any]:
    """Return MB/s of both, three turns each by turns, and the ratio of the medians."""
    total = (federation.folder.releases / "1" / FILE).stat().st_size
    ours, theirs = [], []
    with _nginx(federation) as port:
        for _ in range(3):
            ours.append(_together(readers, lambda: _from_coordinator(federation), total))
            if port:
                theirs.append(_together(readers, lambda: _from_nginx(federation, port), total))
    mine = sorted(ours)[1]
    ratio = round(mine / sorted(theirs)[1], 3) if theirs else None
    return {
        "download_mb_s": [round(speed, 1) for speed in ours],
        "nginx_mb_s": [round(speed, 1) for speed in theirs],
        "download_ratio": ratio,
    }


def _together(readers: int, read: Callable[[], int], total: int) -> float:
    done: list[int] = []
    threads = [threading.Thread(target=lambda: done.append(read())) for _ in range(readers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [total] * readers, "every reader has the whole file"
    return readers * total / (time.perf_counter() - began) / 1e6


def _from_coordinator(federation: Federation) -> int:
    options = [
        ("grpc.max_receive_message_length", methods.REPLY_BYTES),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    offset = 0
    with grpc.secure_channel(federation.address, federation.trust(), options) as channel:
        stub = channel.unary_unary(methods.READ.path)
        while True:
            body = wire.ReadRequest(1, FILE, offset, _PIECE).to_bytes()
            reply = wire.ReadReply.from_bytes(stub(body, timeout=20))
            offset += len(reply.data)
            if offset == reply.total_bytes:
                return offset


def _from_nginx(federation: Federation, port: int) -> int:
    context = ssl.create_default_context(cafile=str(federation.folder.keys / "tls-ca.pem"))
    connection = http.client.HTTPSConnection("localhost", port, context=context)
    connection.request("GET", f"/1/{FILE}")
    reply = connection.getresponse()
    buffer = memoryview(bytearray(_PIECE))
    offset = 0
    while num := reply.readinto(buffer):
        offset += num
    connection.close()
    return offset


@contextmanager
def _nginx(federation: Federation) -> Iterator[int]:
    """Serve the releases with nginx; give its port, 0 where there is no nginx."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        yield 0
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "nginx.conf")
        config.write_text(_config(federation, Path(folder), port))
        with subprocess.Popen([program, "-p", folder, "-c", str(config)]) as process:
            try:
                _wait(port)
                yield port
            finally:
                process.terminate()


def _config(federation: Federation, folder: Path, port: int) -> str:
    certificate = federation.folder.keys / "tls-server.pem"
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/log;
user root;
events {{ }}
http {{
  {temporary} access_log off; sendfile on;
  server {{
    listen 127.0.0.1:{port} ssl; root {federation.folder.releases};
    ssl_certificate {certificate}; ssl_certificate_key {certificate};
  }}
}}
"""


def _wait(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("nginx did not start")
