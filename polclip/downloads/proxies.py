"""The proxy that the environment names for an address, and why it cannot be used."""

import os
import re
import sys
from importlib.util import find_spec
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from requests.utils import get_environ_proxies

from polclip.errors import UserError


class Client(NamedTuple):
    """What a library for HTTP can do with a SOCKS proxy, and the package that it needs for it."""

    socks: tuple[str, ...]
    module: str
    package: str


HTTPX = Client(("socks5", "socks5h"), "socksio", "socksio")
# pip too.
REQUESTS = Client(("socks4", "socks4a", "socks5", "socks5h"), "socks", "PySocks")
# npm brings what it needs.
NPM = Client(("socks", "socks4", "socks4a", "socks5", "socks5h"), "sys", "")


def proxy_for(url: str, client: Client) -> str | None:
    """The address of the proxy for a URL; None if it is asked directly (NO_PROXY is heeded).

    Raises UserError, with the name of the variable, for a proxy that is malformed or that the client cannot use.
    """
    variable, proxy = _named(url)
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    problem = _problem(proxy, client)
    if problem:
        raise UserError(f"{variable} {problem} Or type `unset {variable}` to go without a proxy.")
    return proxy


def through_proxy(url: str) -> str:
    """A clause for errors about the connection to a URL; empty if no proxy is used."""
    variable, proxy = _named(url)
    return f" through the proxy that {variable} names" if proxy else ""


def _named(url: str) -> tuple[str, str]:
    """(variable, value) that name the proxy for a URL; two empty texts without one."""
    proxies = get_environ_proxies(url)
    for kind in (urlsplit(url).scheme, "all"):
        if proxies.get(kind):
            lower = f"{kind}_proxy"
            variable = next((name for name in (lower, lower.upper()) if os.environ.get(name)), "the system's settings")
            return variable, proxies[kind]
    return "", ""


def _problem(proxy: str, client: Client) -> str | None:
    """What is wrong with a proxy, and what to type; its address is not shown, since it may hold a password."""
    if not _is_address(proxy):
        return "is not the address of a proxy. Write one like http://proxy.example.org:3128."
    scheme = urlsplit(proxy).scheme
    if scheme in ("http", "https"):
        return None
    if scheme not in client.socks:
        allowed = ", ".join(("http", "https", *client.socks))
        return (
            f"names a proxy of a kind that cannot be used ({scheme}://). Allowed: {allowed}; write for example "
            "socks5h://HOST:PORT."
        )
    if find_spec(client.module) is None:
        return (
            f"names a SOCKS proxy, for which the Python package {client.package} is needed: type "
            f"`{sys.executable} -m pip install {client.package}`."
        )
    return None


def _is_address(proxy: str) -> bool:
    try:
        address = urlsplit(proxy)
        host, port = address.hostname or "", address.port
        if ":" in host:
            ip_address(host.partition("%")[0])
        elif re.fullmatch(r"[\w.-]+", host):
            host.encode("idna")  # an error for a part that is empty or too long
        else:
            return False
    except ValueError:
        return False
    rest = address.path.strip("/") or address.query or address.fragment
    return proxy.isprintable() and " " not in proxy and port != 0 and not rest
