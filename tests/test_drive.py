"""Google Drive: the page before a large file, and the pages instead of one, as a server on the loopback gives them."""

import pytest
from download_server import BODY, Answer, dataset, fetch_quickly, sha256_of

from polclip.downloads import drive
from polclip.downloads.manifest import Http
from polclip.errors import UserError

FILE = "19YTL-Uq95hjiFZfgwEpXRgcYGCR_PQY0"
HTML = {"Content-Type": "text/html; charset=utf-8", "ETag": ""}
QUOTA = """\
<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>
<a href="https://accounts.google.com/ServiceLogin">Sign in</a>
<p class="uc-error-caption">Sorry, you can&#39;t view or download this file at this time.</p>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently. Please try accessing the
file again later.</p></body></html>"""
SIGN_IN = """\
<!doctype html><html><head><title>Google Drive: Sign-in</title><base href="https://accounts.google.com/v3/signin/">
</head><body><form action="/v3/signin/identifier" method="post"><input type="email" name="identifier"></form></body>"""


def scan_page(action: str, visit: str) -> Answer:
    """Drive's page about a file too large for its virus scan; `visit` is the uuid, another each time."""
    text = (
        "<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>"
        '<form action="/search"><input type="hidden" name="q" value="no"></form>'
        '<p class="uc-warning-caption">Google Drive can\'t scan this file for viruses.</p>'
        f'<form id="download-form" action="{action}" method="get"><input type="submit" id="uc-download-link" '
        'value="Download anyway"/><input type="hidden" name="id" value="a&amp;b"><input type="hidden" name="export" '
        'value="download"><input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" '
        f'value="{visit}"></form><input type="hidden" name="after" value="no"></body></html>'
    )
    return Answer(headers=HTML, body=text.encode())


def bats(server, **changes):
    url = server.url.replace("/files/bats.zip", "/download?id=a&export=download")
    return dataset(Http((url,)), page="https://bats.example/", **changes)


def test_the_form_before_a_large_file_is_followed(server, destination):
    server.plan = [scan_page("/real?a=1", "one")]
    fetch_quickly(bats(server), destination)
    assert destination.read_bytes() == BODY
    assert server.paths[1:] == ["/real?a=1&id=a%26b&export=download&confirm=t&uuid=one"]


def test_a_download_behind_the_form_is_resumed_though_the_form_is_another(server, destination):
    server.plan = [scan_page("/real", "one"), "cut"]
    with pytest.raises(UserError, match="cut the connection"):
        fetch_quickly(bats(server), destination, attempts=1)
    have = destination.with_name("bats.zip.part").stat().st_size
    server.plan = [scan_page("/real", "two")]
    fetch_quickly(bats(server, sha256=sha256_of(BODY)), destination)
    assert destination.read_bytes() == BODY
    assert server.paths[-1].endswith("uuid=two") and server.ranges[-1] == f"bytes={have}-" and have > 0


@pytest.mark.parametrize("status", [200, 403])
@pytest.mark.parametrize(
    ("page", "told"), [(QUOTA, "to nobody for up to 24 hours"), (SIGN_IN, "wants a sign-in")], ids=["quota", "sign-in"]
)
def test_pages_that_refuse_end_as_one_error_that_says_how_to_get_it(server, destination, tmp_path, page, told, status):
    server.plan = [Answer(status, HTML, page.encode())]
    with pytest.raises(UserError) as error:
        fetch_quickly(bats(server), destination)
    said = str(error.value)
    assert f"`bats` (bats.zip) is missing: Google Drive {'gives it ' if 'nobody' in told else ''}{told}" in said
    assert "https://bats.example/" in said and str(tmp_path / "resources" / "by_hand" / "bats.zip") in said
    assert len(server.paths) == 1 and not destination.exists()


def test_a_refusal_behind_the_form_and_a_form_behind_the_form_end_too(server, destination):
    server.plan = [scan_page("/real", "one"), Answer(headers=HTML, body=QUOTA.encode())]
    with pytest.raises(UserError, match="to nobody"):
        fetch_quickly(bats(server), destination)
    server.plan = [scan_page("/real", "one"), scan_page("/real", "two")]
    with pytest.raises(UserError, match="gave a web page instead of a file"):
        fetch_quickly(bats(server), destination)
    server.plan = [scan_page("javascript:alert(1)", "one")]
    with pytest.raises(UserError, match="gave a web page instead of a file"):
        fetch_quickly(bats(server), destination)


def test_a_refusal_does_not_cost_what_has_come(server, destination):
    server.plan = ["cut"]
    with pytest.raises(UserError):
        fetch_quickly(bats(server), destination, attempts=1)
    have = destination.with_name("bats.zip.part").stat().st_size
    server.plan = [Answer(headers=HTML, body=QUOTA.encode())]
    with pytest.raises(UserError, match="to nobody"):
        fetch_quickly(bats(server), destination)
    fetch_quickly(bats(server), destination)
    assert destination.read_bytes() == BODY and server.ranges[-1] == f"bytes={have}-"


def test_a_person_is_sent_to_the_page_of_the_file(destination, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # port 9: nobody listens
    url = f"https://drive.usercontent.google.com/download?id={FILE}&export=download&confirm=t"
    with pytest.raises(UserError, match=f"download https://drive.google.com/file/d/{FILE}/view "):
        fetch_quickly(dataset(Http((url,)), page="https://bats.example/"), destination, attempts=1)
    assert drive.page_of("https://bats.example/?id=x") is None
