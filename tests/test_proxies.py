"""Pulling through the proxy that the environment names. Threat T24 of security.md 2."""

from base64 import b64encode
from pathlib import Path

import pytest

from orthofed.client.verify import verify_folder
from orthofed.core.errors import Unreachable, VerificationFailed

from . import certificates
from .connect_proxy import ConnectProxy
from .mirror import SignedRelease, files
from .test_mirrors import pull, tree
from .web import Web


@pytest.fixture(autouse=True)
def _no_proxy_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def release() -> SignedRelease:
    return SignedRelease.of(files())


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_tls_goes_through_a_tunnel(
    name: str, release: SignedRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONNECT alone, with the login of its address; the pinned CA is asked for inside of it."""
    authority = certificates.authority()
    with (
        Web(tree(tmp_path / "www", release), tls=certificates.server(authority)) as web,
        ConnectProxy() as proxy,
    ):
        host_port = web.url.removeprefix("https://")
        monkeypatch.setenv(name, f"http://ana:s%3Acret@{proxy.host_port}")
        web.tls = authority
        pull(web, release.log, tmp_path / "out")

    verify_folder(tmp_path / "out", log=release.log)
    assert {line.rpartition(" ")[0] for line in proxy.asked} == {f"CONNECT {host_port}"}
    assert set(proxy.logins) == {f"Basic {b64encode(b'ana:s:cret').decode()}"}


def test_a_proxy_cannot_show_a_certificate_of_its_own(
    release: SignedRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T24: what is at the other end of the tunnel has another CA: nothing is fetched."""
    shown = certificates.server(certificates.authority("proxy"))
    with Web(tree(tmp_path / "www", release), tls=shown) as web, ConnectProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host_port}")
        web.tls = certificates.authority()
        with pytest.raises(VerificationFailed) as caught:
            pull(web, release.log, tmp_path / "out")

    assert caught.value.code == "tls-untrusted"
    assert web.ranges == []


def test_plain_http_is_asked_of_the_proxy_by_its_whole_address(
    release: SignedRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY, without a scheme: GET http://..., by ranges too."""
    with Web(tree(tmp_path / "www", release)) as web, ConnectProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.host_port)
        pull(web, release.log, tmp_path / "out")

    verify_folder(tmp_path / "out", log=release.log)
    assert proxy.asked
    assert all(line.startswith(f"GET {web.url}/") for line in proxy.asked)


@pytest.mark.parametrize("value", ["127.0.0.1", "*", "example.org, 127.0.0.1"])
def test_no_proxy_is_heeded(
    value: str, release: SignedRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_PROXY names the host: the proxy is not asked."""
    with Web(tree(tmp_path / "www", release)) as web, ConnectProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host_port}")
        monkeypatch.setenv("NO_PROXY", value)
        pull(web, release.log, tmp_path / "out")

    assert proxy.asked == []


@pytest.mark.parametrize("address", ["socks5://127.0.0.1:1", "http://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_named(
    address: str, release: SignedRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No kind that is spoken here, or nobody there: an error of ours, never a direct connection."""
    with Web(tree(tmp_path / "www", release)) as web:
        monkeypatch.setenv("HTTP_PROXY", address)
        with pytest.raises(Unreachable, match=r"proxy|Proxy"):
            pull(web, release.log, tmp_path / "out")

    assert web.ranges == []
