"""A headless Chromium of this machine's, for tests of pages.

Playwright drives it; its own download of a browser is not used, since package registries are all that tests may need.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# As root there is no sandbox. The others keep it from asking for anything outside.
OPTIONS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


WAIT = 60_000  # milliseconds, on a busy machine

# Texts that stand out too little from what is behind them (WCAG 2.2: 4.5 to 1), of all that is visible.
CONTRAST = """() => {
  const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *:not(script, noscript)")) {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    const both = [light(getComputedStyle(element).color), light(behind(element))];
    if ((Math.max(...both) + 0.05) / (Math.min(...both) + 0.05) < 4.5) poor.push(element.outerHTML.slice(0, 80));
  }
  return poor;
}"""


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


@contextmanager
def watched_pages(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens pages by address, colour scheme and size; looks in the end that the browser had nothing to complain of."""
    contexts, complaints = [], []

    def open_page(url: str, scheme: str = "light", size: tuple[int, int] = (1280, 900)) -> Page:
        context = browser.new_context(viewport=dict(zip(("width", "height"), size, strict=True)), color_scheme=scheme)
        context.set_default_timeout(WAIT)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        return page

    expect.set_options(timeout=WAIT)
    yield open_page
    for context in contexts:
        context.close()
    assert [said for said in complaints if "Failed to load resource" not in said] == []
