"""A headless Chromium of this machine's, for tests of pages.

Playwright drives it; its own download of a browser is not used, since package registries are all that tests may need.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Error, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# As root there is no sandbox. The others keep it from asking for anything outside.
OPTIONS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


class NoChromium(Exception):
    """Says why no browser can be started here."""


def installed() -> str:
    """The path of a Chromium, by Debian's package if need be; raises NoChromium."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found:
        return found
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NoChromium("no Chromium here, and only root with apt-get can install it")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
        done = subprocess.run(["apt-get", *command], env=quiet, capture_output=True, text=True)
        if done.returncode:
            raise NoChromium(f"apt-get {' '.join(command)} failed: {done.stderr[-300:]}")
    return shutil.which("chromium")


@contextmanager
def local_chromium() -> Iterator[Browser]:
    """A running Chromium; raises NoChromium where none can be had or it does not start."""
    path = installed()
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=OPTIONS.split())
        except Error as error:
            raise NoChromium(f"{path} does not start: {error.message[:300]}") from error
        try:
            yield browser
        finally:
            browser.close()
