"""The pages with which Google Drive answers instead of a file, and what they mean.

A file too large for Drive's virus scan (about 100 MB) comes behind a page with the form `download-form`, whose hidden
inputs (id, export, confirm, uuid) make the address of the file; the uuid is another at each visit.
"""

from html.parser import HTMLParser
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

HOSTS = ("drive.google.com", "drive.usercontent.google.com", "docs.google.com")


def confirmed_address(page: str, url: str) -> str | None:
    """The address of the file behind the page about the virus scan; None where `page`, of `url`, is another one."""
    form = _DownloadForm()
    form.feed(page)
    if form.action is None:
        return None
    address = urlsplit(urljoin(url, form.action))
    if address.scheme not in ("http", "https"):
        return None
    query = "&".join(filter(None, [address.query, urlencode(form.inputs)]))
    return address._replace(query=query, fragment="").geturl()


def refusal(page: str, url: str) -> str | None:
    """Why Drive gives no file, as a clause; None where the page is none of Drive's refusals."""
    text = page.lower()
    if "too many users have viewed or downloaded" in text or ("google drive" in text and "quota exceeded" in text):
        return "Google Drive gives it to nobody for up to 24 hours, since too many fetched it"
    asks = urlsplit(url).netloc == "accounts.google.com"
    if asks or ("google drive" in text and "accounts.google.com/" in text):
        return "Google Drive wants a sign-in for it"
    return None


def page_of(url: str) -> str | None:
    """The page on which a person, signed in, downloads a file of Drive; None for other addresses."""
    address = urlsplit(url)
    (name, *_) = parse_qs(address.query).get("id", [""])
    return f"https://drive.google.com/file/d/{name}/view" if address.netloc in HOSTS and name else None


class _DownloadForm(HTMLParser):
    """Finds `<form id="download-form">`: its action, and the names and values of the hidden inputs in it."""

    def __init__(self):
        super().__init__()
        self.action: str | None = None
        self.inputs: dict[str, str] = {}
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self._inside = given.get("id") == "download-form"
            if self._inside:
                self.action = given.get("action") or ""
        elif tag == "input" and self._inside and given.get("type") == "hidden" and given.get("name"):
            self.inputs[given["name"]] = given.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False
