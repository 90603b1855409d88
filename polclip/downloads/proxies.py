"""The proxy that the environment names for an address, and why it cannot be used."""

import os
import sys
from importlib.util import find_spec
from typing import NamedTuple
from urllib.parse import urlsplit

from requests.utils import get_environ_proxies

from polclip.errors import UserError


class Client(NamedTuple):
    """What a library for HTTP can do with a SOCKS proxy, and the package that it needs for it."""

    schemes: tuple[str, ...]
    module: str
    package: str


HTTPX = Client(("socks5", "socks5h"), "socksio", "socksio")
REQUESTS = Client(("socks4", "socks4a", "socks5", "socks5h"), "socks", "PySocks")


def proxy_for(url: str, client: Client) -> str | None:
    """The proxy for an address, None where it is asked directly (NO_PROXY too is heeded).

    Raises UserError, with the name of the variable, for a proxy that is malformed or that the client cannot use.
    """
    variable, proxy = _named(url)
    if not proxy:
        return None
    problem = _problem(proxy, client)
    if problem:
        raise UserError(f"{variable} {problem} Or type `unset {variable}` to go without a proxy.")
    return proxy


def through_proxy(url: str) -> str:
    """A clause for errors about the connection to an address; empty where no proxy is used."""
    variable, proxy = _named(url)
    return f" through the proxy that {variable} names" if proxy else ""


def _named(url: str) -> tuple[str, str]:
    """(variable, value) that name the proxy for an address; two empty texts without one."""
    proxies = get_environ_proxies(url)
    for kind in (urlsplit(url).scheme, "all"):
        if proxies.get(kind):
            lower = f"{kind}_proxy"
            variable = next((name for name in (lower, lower.upper()) if os.environ.get(name)), "the system's settings")
            return variable, proxies[kind]
    return "", ""


def _problem(proxy: str, client: Client) -> str | None:
    """What is wrong with a proxy, and what to type; its address is not shown, since it may hold a password."""
    try:
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        usable = bool(address.hostname) and address.port != 0 and proxy.isprintable() and " " not in proxy
    except ValueError:
        usable = False
    if not usable:
        return "is not the address of a proxy. Write one like http://proxy.example.org:3128."
    if address.scheme in ("http", "https"):
        return None
    if address.scheme not in client.schemes:
        allowed = ", ".join(("http", "https", *client.schemes))
        return (
            f"names a proxy of a kind that cannot be used ({address.scheme}://). Allowed: {allowed}; write for example "
            "socks5h://HOST:PORT."
        )
    if find_spec(client.module) is None:
        return (
            f"names a SOCKS proxy, for which the Python package {client.package} is needed: type "
            f"`{sys.executable} -m pip install {client.package}`."
        )
    return None
