"""Proxies in environment variables: used, passed by, or refused in one sentence that names the variable."""

import os
import shutil

import pytest
from openai_client import quick_server
from test_definitions import PHRASES, _all_texts, _write

from polclip.definitions.client import connect
from polclip.downloads import proxies
from polclip.downloads.manifest import Npm, Pip
from polclip.downloads.proxies import HTTPX, REQUESTS, proxy_for
from polclip.downloads.registries import fetch_with_npm, fetch_with_pip
from polclip.downloads.web import NotFetched, download
from polclip.errors import UserError

SECRET = "canary-not-a-password"
MALFORMED = (
    *("http://", "http:///", "http://proxy:port", "http://proxy:99999", "http://proxy:0", "http:/proxy:3128"),
    *("http//proxy:3128", "//proxy:3128", "http://pro xy:3128", "http://proxy:3128 ", "http://[::1", "http://[x]:1"),
    *("http://ex..ample:1", "http://%zz:1", "http://ho^st:1", f"http://me:{SECRET}@:3128", "://proxy:1"),
    *("http://proxy:3128/path", f"http://me:{SECRET}@proxy:x", "\u2025:1"),
)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def without_packages(monkeypatch):
    monkeypatch.setattr(proxies, "find_spec", lambda name: None)


def fetched(url, folder):
    return download(url, folder / "file.part", lambda line: None, attempts=1, pause=0)


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"])
def test_a_socks_proxy_names_the_variable_and_the_package(monkeypatch, tmp_path, variable):
    without_packages(monkeypatch)
    monkeypatch.setenv(variable, f"socks5://me:{SECRET}@127.0.0.1:9")
    for package, use in (
        ("socksio", lambda: connect("https://llm.invalid/v1")),
        ("PySocks", lambda: fetched("https://files.invalid/a.zip", tmp_path)),
    ):
        said = (
            rf"^{variable} names a SOCKS proxy.* package {package} .*`.* -m pip install {package}`.*`unset {variable}`"
        )
        with pytest.raises(UserError, match=said) as caught:
            use()
        assert SECRET not in _all_texts(caught.value)


@pytest.mark.parametrize("proxy", MALFORMED)
def test_a_malformed_proxy_names_the_variable(monkeypatch, tmp_path, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    for use in (lambda: connect("https://llm.invalid/v1"), lambda: fetched("http://files.invalid/a.zip", tmp_path)):
        with pytest.raises(
            UserError, match=r"^ALL_PROXY is not the address of a proxy\. Write one like http:"
        ) as caught:
            use()
        assert SECRET not in _all_texts(caught.value)


@pytest.mark.parametrize("proxy", ["socks://127.0.0.1:9", "ftp://127.0.0.1:9", "quic://127.0.0.1:9"])
def test_a_proxy_of_another_kind_names_those_that_work(monkeypatch, tmp_path, proxy):
    monkeypatch.setenv("all_proxy", proxy)
    for use in (lambda: connect("https://llm.invalid/v1"), lambda: fetched("http://files.invalid/a.zip", tmp_path)):
        with pytest.raises(UserError, match=r"^all_proxy .*kind that cannot be used .*socks5h://HOST:PORT"):
            use()


def test_what_needs_no_proxy_is_asked_without(monkeypatch, tmp_path):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    without_packages(monkeypatch)
    with quick_server(monkeypatch) as server:
        assert _write(tmp_path, PHRASES[:1], base_url=server.url)[0][0]["definition"] == "a definition"
        assert fetched(server.url.removesuffix("/v1") + "/counts", tmp_path) is False
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.org:3128")  # the one for https goes before that for all
    assert proxy_for("https://llm.invalid/v1", HTTPX) == "http://proxy.example.org:3128"
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example.org:3128")
    assert proxy_for("https://files.invalid/", REQUESTS) == "http://proxy.example.org:3128"


def test_a_proxy_is_used(monkeypatch, tmp_path):
    with quick_server(monkeypatch) as server:  # it answers whatever host is asked for
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
        assert _write(tmp_path, PHRASES[:1], base_url="http://llm.invalid/v1")[0][0]["definition"] == "a definition"
        assert len(server.requests) == 1
        assert fetched("http://files.invalid/counts", tmp_path) is False
        monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1").removeprefix("http://"))
        (tmp_path / "file.part").unlink()
        assert fetched("http://files.invalid/counts", tmp_path) is False


def test_a_proxy_that_does_not_answer_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(NotFetched, match=r"no connection to files\.invalid through the proxy that HTTP_PROXY names"):
        fetched("http://files.invalid/a.zip", tmp_path)


def test_registries_name_the_variable_too(monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.invalid/simple")
    monkeypatch.setenv("npm_config_registry", "https://index.invalid/")
    without_packages(monkeypatch)
    for number, proxy in enumerate(("socks5://127.0.0.1:9", "http://proxy:port")):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        with pytest.raises(UserError, match=r"^HTTPS_PROXY "):
            fetch_with_pip(Pip("six", "1.16.0", "wheel"), tmp_path / f"pip{number}")
    if shutil.which("npm"):
        with pytest.raises(UserError, match=r"^HTTPS_PROXY is not the address"):
            fetch_with_npm(Npm("left-pad", "1.3.0"), tmp_path / "npm", tmp_path / "tools")
