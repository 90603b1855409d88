"""The report page in a real browser: its script sorts, filters and saves, under the page's own security policy."""

import re
from xml.etree import ElementTree

import pytest
from local_chromium import CONTRAST
from playwright.sync_api import expect

LIGHT_AND_DARK = ("light", "dark")
WIDE_AND_NARROW = ((1280, 900), (400, 800))
# The cells of the rows of a table that are shown, as people read them.
SHOWN = """table => [...table.tBodies].flatMap((body) => [...body.rows]).filter((row) => row.checkVisibility())
  .map((row) => [...row.cells].map((cell) => cell.innerText.replace(/\\s+/g, " ").trim()))"""

# Texts of figures that are cut off, or that the button for saving lies upon.
HIDDEN = """() => [...document.querySelectorAll(".panel")].flatMap((figure) => {
  const [svg, button] = ["svg", ".save"].map((one) => figure.querySelector(one)?.getBoundingClientRect());
  if (!svg || !svg.width) return [];
  return [...figure.querySelectorAll("svg text")].filter((text) => {
    const { left, right, top, bottom } = text.getBoundingClientRect();
    const below = right > button.left && left < button.right && bottom > button.top && top < button.bottom;
    return below || left < svg.left - 1 || right > svg.right + 1;
  }).map((text) => text.textContent);
})"""

# What sticks out of the page or of the box around it.
CUT = """() => [...document.querySelectorAll(".scroll, table, svg, pre, .cards > *")].filter((one) => {
  if (!one.checkVisibility()) return false;
  const outside = one.getBoundingClientRect().right > document.documentElement.clientWidth + 1;
  return outside || (one.matches(".scroll") && one.scrollWidth > one.clientWidth + 1);
}).map((one) => one.getAttribute("aria-label") ?? one.outerHTML.slice(0, 100))"""


@pytest.fixture(scope="module")
def address(run):
    """The page that the workflow wrote."""
    return (run.results / "report" / "index.html").as_uri()


@pytest.fixture
def page(open_in_browser, address):
    return open_in_browser(address)


def saved(page, button):
    """Name and text of what a button saves."""
    with page.expect_download() as download:
        button.click()
    return download.value.suggested_filename, download.value.path().read_text(encoding="utf-8")


def test_a_table_is_sorted_by_its_heads(page):
    table = page.locator("#costs table").first
    table.locator("+ .more").click()
    head = table.locator("thead th").nth(1)
    for order, reverse in (("descending", True), ("ascending", False)):  # numbers: the largest first
        head.get_by_role("button").click()
        expect(head).to_have_attribute("aria-sort", order)
        numbers = [float(cells[1].split()[0].replace(",", "")) for cells in table.evaluate(SHOWN)]
        assert len(set(numbers)) > 2 and numbers == sorted(numbers, reverse=reverse)
    first = table.locator("thead th").first
    first.get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(first).to_have_attribute("aria-sort", "ascending")  # words: from A
    assert head.get_attribute("aria-sort") is None
    words = [cells[0] for cells in table.evaluate(SHOWN)]
    assert words == sorted(words, key=str.lower)


def test_rows_are_filtered_and_saved_as_they_are_shown(page):
    table = page.locator("table", has=page.get_by_role("searchbox")).first
    if table.locator("+ .more").is_visible():
        table.locator("+ .more").click()
    before = table.evaluate(SHOWN)
    word = before[0][1].split()[-1].lower()  # a sense key
    table.get_by_role("searchbox").fill(word)
    shown = table.evaluate(SHOWN)
    assert 0 < len(shown) < len(before) and all(word in " ".join(cells).lower() for cells in shown)
    expect(table.get_by_role("status")).to_have_text(f"{len(shown)} of {len(before)}")
    name, text = saved(page, table.get_by_role("button", name="Save as TSV"))
    assert re.fullmatch(r"tiny-[\w-]+-\d+\.tsv", name)
    lines = [line.split("\t") for line in text.splitlines()]
    assert len({len(line) for line in lines}) == 1
    assert [[cell.replace(" ", "") for cell in line] for line in lines[-len(shown) :]] == [
        [cell.replace(" ", "") for cell in cells] for cells in shown
    ]


@pytest.mark.parametrize("scheme", LIGHT_AND_DARK)
def test_figures_are_saved_with_the_colours_that_are_shown(open_in_browser, address, scheme):
    page = open_in_browser(address, scheme)
    name, text = saved(page, page.get_by_role("button", name="Save as SVG").first)
    assert name.startswith("tiny-") and name.endswith(".svg") and "var(" not in text
    figure = ElementTree.fromstring(text)
    ground = figure.find("{http://www.w3.org/2000/svg}rect")
    assert ground.get("fill") == {"light": "#ffffff", "dark": "#1c1f25"}[scheme]
    assert (ground.get("width"), ground.get("height")) == (figure.get("width"), figure.get("height"))


def test_examples_and_two_experiments_are_chosen(page):
    page.locator("#compare select").nth(2).select_option("zero_shot")
    rows = page.locator("#compare tbody tr")
    expect(page.locator("#compare thead")).to_contain_text("zero_shot")
    expect(page.locator("#compare .count").first).to_contain_text(str(rows.count()))
    bar = page.locator(".filters[data-for]").first
    buttons = bar.locator("[data-key] button")
    cards = page.locator(f"#{bar.get_attribute('data-for')} > *")
    buttons.nth(1).click()
    expect(buttons.nth(1)).to_have_attribute("aria-pressed", "true")
    seen = cards.evaluate_all("all => all.filter((card) => card.checkVisibility()).length")
    assert 0 < seen < cards.count()
    expect(bar.locator(".count")).to_have_text(f"{seen} of {cards.count()} shown")


@pytest.mark.parametrize("scheme", LIGHT_AND_DARK)
@pytest.mark.parametrize("size", WIDE_AND_NARROW, ids=("wide", "narrow"))
def test_it_fits_a_phone_and_is_read_in_light_and_in_dark(open_in_browser, address, scheme, size):
    page = open_in_browser(address, scheme, size)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate(HIDDEN) == []
    paper = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (int(paper[0]) > 200) is (scheme == "light")


def test_a_long_table_shows_ten_rows_and_all_on_a_click(page):
    table = page.locator("#costs table")
    more = table.locator("+ .more")
    rows = table.locator("tbody tr").count()
    assert rows > 10 and len(table.evaluate(SHOWN)) == 10
    expect(more).to_have_text(f"Show all {rows} rows")
    more.click()
    assert len(table.evaluate(SHOWN)) == rows
    more.click()
    table.get_by_role("searchbox").fill("embed")
    shown = table.evaluate(SHOWN)
    assert 0 < len(shown) <= 10 and all("embed" in cells[0] for cells in shown) and not more.is_visible()
    table.get_by_role("searchbox").fill("")
    table.locator("thead th").first.get_by_role("button").click()
    assert len(table.evaluate(SHOWN)) == 10


@pytest.mark.parametrize("size", WIDE_AND_NARROW, ids=("wide", "narrow"))
def test_the_forest_is_whole_at_every_width(open_in_browser, address, size):
    page = open_in_browser(address, size=size)
    forests = [one for one in page.locator("#parts figure svg").all() if one.is_visible()]
    assert len(forests) == 1
    box = forests[0].bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= size[0]
    smallest = page.evaluate("""() => Math.min(...[...document.querySelectorAll("#parts figure svg text")]
      .filter((text) => text.checkVisibility()).map((text) => text.getBoundingClientRect().height))""")
    assert smallest > 7  # pixels


def test_no_table_is_wider_than_a_screen_of_1280_pixels(page):
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate(CUT) == []


def test_nothing_is_cut_on_paper(open_in_browser, address):
    page = open_in_browser(address, size=(718, 1000))  # A4 less margins of a centimetre
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    page.emulate_media(media="print")
    assert page.evaluate(CUT) == []
    assert page.locator("#costs tbody tr").evaluate_all("all => all.every((row) => row.checkVisibility())")


def test_the_page_of_the_data_is_a_click_away(page):
    page.locator("#data a", has_text="page of the data").click()
    expect(page.locator("h1")).to_contain_text("tiny")
    assert page.url.endswith("/report/data.html")
