"""What the page's script does, in a browser where this machine has one: sorting, filtering, saving, comparing."""

import html
import json
import re
import shutil
import subprocess
from xml.etree import ElementTree

import pytest
from report_fixture import build

from polclip.reporting.inputs import ReportSettings
from polclip.reporting.page import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

# Does what a reader does and leaves what came of it in the page; what is saved is kept in place of a download.
READER = """
const saved = {};
URL.createObjectURL = (blob) => { blob.text().then((text) => { saved[last] = text; }); return "#"; };
let last = "";
HTMLAnchorElement.prototype.click = function () { last = this.download; };
const table = document.querySelector("#visual table");
const heads = table.tHead.rows[0].cells;
const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].firstChild.textContent);
const seen = {};
heads[1].firstElementChild.click();
seen.down = [heads[1].getAttribute("aria-sort"), names()];
heads[1].firstElementChild.click();
seen.up = [heads[1].getAttribute("aria-sort"), names()];
heads[0].firstElementChild.click();
seen.letters = [heads[0].getAttribute("aria-sort"), names(), heads[1].getAttribute("aria-sort")];
const long = document.querySelector("#compare");
const [benchmark, first, second, side] = long.querySelectorAll("select");
benchmark.value = "hard"; benchmark.dispatchEvent(new Event("change"));
second.value = "zero_shot"; second.dispatchEvent(new Event("change"));
seen.shown = !long.hidden;
seen.only = [long.querySelectorAll("tbody tr").length, long.querySelector(".count").textContent];
side.value = "second"; side.dispatchEvent(new Event("change"));
seen.other = long.querySelectorAll("tbody tr").length;
const bar = document.querySelector("[data-for=visual-examples]");
const reasons = [...bar.querySelectorAll("[data-key=reasons] button")];
reasons.find((one) => one.textContent.startsWith("another sense")).click();
const cards = [...document.querySelectorAll("#visual-examples article")];
seen.reason = cards.filter((card) => !card.hidden).map((card) => card.dataset.reasons);
table.caption.querySelector(".tools button").click();
setTimeout(() => document.querySelector("figure .save").click(), 50);
setTimeout(() => {
  const told = { id: "seen", textContent: JSON.stringify({ ...seen, saved }) };
  document.body.append(Object.assign(document.createElement("pre"), told));
}, 300);
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    root = tmp_path_factory.mktemp("read")
    inputs = build(root)
    write_report(ReportSettings(name="fixture", picture_root=str(root)), inputs, root / "index.html")
    page = (root / "index.html").read_text(encoding="utf-8")
    # The reader's script is not the page's own, which alone its policy lets run.
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    (root / "read.html").write_text(page.replace("</body>", f"<script>{READER}</script></body>"), encoding="utf-8")
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    done = subprocess.run(
        [*command, f"--user-data-dir={root / 'browser'}", (root / "read.html").as_uri()],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1])), page


def test_heads_sort_within_their_group_and_say_so(seen):
    told, _ = seen
    assert told["down"] == ["descending", ["main", "no_fusion", "text_only"]]
    assert told["up"] == ["ascending", ["text_only", "no_fusion", "main"]]
    assert told["letters"] == ["ascending", ["main", "no_fusion", "text_only"], None]


def test_two_experiments_are_compared(seen):
    told, page = seen
    data = json.loads(re.search(r'id="answers">(.*?)</script>', page)[1])["hard"]
    a, b = (data["experiments"].index(name) for name in ("main", "zero_shot"))
    right = [[row["answers"][at] in row["gold"] for at in (a, b)] for row in data["rows"]]
    assert told["shown"] and told["only"] == [
        right.count([True, False]),
        f"{right.count([True, False])} of 40 instances",
    ]
    assert told["other"] == right.count([False, True])


def test_examples_are_shown_by_reason(seen):
    told, _ = seen
    assert told["reason"] and all("another sense of the same word" in reasons for reasons in told["reason"])


def test_tables_and_figures_are_saved_as_they_are_shown(seen):
    saved = seen[0]["saved"]
    rows = [line.split("\t") for line in saved["fixture-visual-1.tsv"].splitlines()]
    assert (
        len({len(row) for row in rows}) == 1
        and rows[0][0] == "Experiment"
        and rows[0][1].startswith("unseen_style HR@1")
    )
    assert rows[1][0].startswith("main") and re.fullmatch(r"[\d.]+ ±[\d.]+ \[[\d.]+, [\d.]+\]", rows[1][1])
    (name,) = [name for name in saved if name.endswith(".svg")]
    assert name.startswith("fixture-bars-") and "var(" not in saved[name]
    assert ElementTree.fromstring(saved[name]).tag == "{http://www.w3.org/2000/svg}svg"
