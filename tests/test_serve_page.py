"""The page of `polclip serve` in a real browser: what a person types, presses, drops and sees."""

import re
import shutil
from pathlib import Path

import pytest
from local_chromium import CONTRAST
from playwright.sync_api import expect
from served_run import served_here
from test_malformed_pictures import png

from polclip import Disambiguator
from polclip.serve.app import make_app
from polclip.serve.shown import NOTHING

LIGHT_AND_DARK = ("light", "dark")
WIDE_AND_NARROW = ((1280, 900), (360, 740))


@pytest.fixture
def run(run_in_use):
    return run_in_use


@pytest.fixture
def server(page_server):
    return page_server


@pytest.fixture
def open_page(open_in_browser, server):
    return lambda scheme="light", size=(1280, 900), url=server.url: open_in_browser(url, scheme, size)


@pytest.fixture
def page(open_page):
    return open_page()


def field(page, label):
    return page.get_by_label(label, exact=True)


def upload(page, *files):
    """Files by name and content."""
    given = [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in files]
    page.get_by_label("Pictures, ten say").set_input_files(given)


def drawn(run, count=10):
    return [(path.name, path.read_bytes()) for path in run.pictures[:count]]


def expect_seen(images):
    """The browser shows all of some pictures, once they are scrolled to."""
    for image in images.all():
        image.scroll_into_view_if_needed()
        expect(image).to_have_js_property("complete", True)
        expect(image).not_to_have_js_property("naturalWidth", 0)


# --- a sentence


def test_with_the_keyboard_alone_a_word_is_chosen_and_its_senses_and_pictures_are_seen(page, run):
    for _ in range(2):  # past the link that skips the top
        page.keyboard.press("Tab")
    page.keyboard.type("We saw a bat and the animal of the STAR.")
    page.keyboard.press("Enter")
    words = page.locator("#marked").get_by_role("button")
    expect(words).to_have_text(["bat", "STAR"])
    expect(page.locator("#marked")).to_have_text("We saw a bat and the animal of the STAR.")
    expect(page.get_by_role("status").first).to_have_text("2 ambiguous words are marked.")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "STAR":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(words.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(words.nth(0)).to_have_attribute("aria-pressed", "false")

    senses = page.get_by_role("list", name="“STAR” here").get_by_role("listitem")
    expected = run.opened.senses("We saw a bat and the animal of the STAR.", "STAR").words[0].senses
    expect(senses).to_have_count(2)
    expect(page.get_by_role("status").first).to_contain_text(f"2 senses of “STAR”. Best, with {percent(expected[0])}")
    for at, sense in enumerate(expected):
        item = senses.nth(at)
        expect(item).to_contain_text(sense.gloss)
        expect(item).to_contain_text(sense.sense_key)
        expect(item.locator(".percent")).to_have_text(percent(sense))
        page.wait_for_timeout(300)  # while it grows
        width = item.locator(".bar").evaluate("one => one.firstChild.offsetWidth / one.offsetWidth")
        assert width == pytest.approx(sense.probability, abs=0.03)
        pictures = item.get_by_role("img")
        expect(pictures).to_have_count(5)
        expect_seen(pictures)
        imagined = run.opened.imagine(sense.sense_key, 5, run.shown.read).images
        assert pictures.evaluate_all("all => all.map((one) => one.title)") == [one.image for one in imagined]


def percent(ranked):
    value = 100 * ranked.probability
    return "<1\u00a0%" if value < 1 else f"{int(value + 0.5)}\u00a0%"


def test_examples_are_clicked(page, run):
    page.get_by_role("button", name="He swung the bat and ran.").click()
    expect(field(page, "Sentence")).to_have_value("He swung the bat and ran.")
    expect(page.locator("#sense-list > li")).to_have_count(2)


def test_every_sense_of_the_run_has_pictures_beside_it_and_four_of_its_queries_can_be_tried(page, run):
    for button in page.locator(".example").all():
        button.click()
        expect(page.locator("#sense-list > li")).to_have_count(2)
        expect(page.locator("#sense-list[aria-busy], .imagined span")).to_have_count(0)
        for sense in page.locator("#sense-list > li").all():
            expect(sense.get_by_role("img")).to_have_count(5)
        expect_seen(page.locator("#sense-list img"))
    buttons = page.locator(".query")
    expect(buttons).to_have_text([query.phrase for query in run.shown.queries])
    expect(buttons).to_have_count(4)
    for button, query in zip(buttons.all(), run.shown.queries, strict=True):
        button.click()
        expect(page.locator("#ranking-title")).to_have_text(f"“{query.phrase}”, best first")
        expect(page.locator("#picture-list > li")).to_have_count(10)
        files = [run.shown.files[place] for place in query.places]
        best = run.opened.rank_images(query.word, query.phrase, files).images[0].image
        expect(page.locator("#picture-list .name").first).to_have_text(f"picture {files.index(Path(best)) + 1}")
        assert field(page, "Word").input_value() == query.word


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  ", "Type a sentence first."),
        ("of the and", "The text has function words alone: name one as the target to ask for it."),
        ("an animal", "No word of the text has two senses or more in WordNet."),
        ("bat " * 250_000, "The text has 1,000,000 characters; at most 5,000 are read here."),
    ],
    ids=("empty", "function words", "one sense", "a megabyte"),
)  # fmt: skip
def test_a_text_without_answer_says_why(page, text, message):
    field(page, "Sentence").evaluate("(one, text) => { one.value = text; }", text)  # as if pasted
    page.get_by_role("button", name="Mark the ambiguous words").click()
    expect(page.get_by_role("alert")).to_have_text(message)
    expect(page.locator("#marked")).to_be_hidden()
    field(page, "Sentence").fill("a bat")
    page.keyboard.press("Enter")
    expect(page.locator("#marked button")).to_have_text(["bat"])
    expect(page.locator("#sentence-error")).to_be_hidden()


def test_odd_texts_are_shown_as_they_are_and_their_words_marked(page):
    text = (
        "\U0001f469\u200d\U0001f467\U0001f987 bats <img src=x onerror=alert(1)> "
        "\u202e\u05e2\u05d8\u05dc\u05e3 star\u202c \x07\x1b a crane"
    )
    field(page, "Sentence").fill(text)
    page.keyboard.press("Enter")
    words = page.locator("#marked button")
    expect(words).to_have_text(["bats", "star", "crane"])
    assert page.locator("#marked").evaluate("one => one.textContent") == text
    assert page.locator("#marked img").count() == 0
    words.nth(2).click()
    expect(page.locator("#sense-list > li").first).to_contain_text("crane, noun")


# --- pictures


def test_ten_pictures_are_ranked_and_described(page, run):
    field(page, "Word").fill("bat")
    field(page, "In a phrase that makes it plain").fill("bat cave")
    upload(page, *drawn(run))
    items = (
        page.get_by_role("list", name="“bat cave”, best first").get_by_role("listitem").filter(has=page.locator(".bar"))
    )
    expect(items).to_have_count(10)
    expected = run.opened.rank_images("bat", "bat cave", run.pictures[:10]).images
    expect(items.locator(".name")).to_have_text([Path(image.image).name for image in expected])
    expect(items.locator(".percent")).to_have_text([percent(image) for image in expected])
    expect(page.locator("#pictures-status")).to_contain_text(
        f"10 pictures ranked. First: {Path(expected[0].image).name}"
    )
    for at in (0, 9):  # the last is described last
        glosses = run.opened.describe(expected[at].image, 3).glosses
        expect(items.nth(at).locator(".said li")).to_have_text(
            [f"{', '.join(one.lemmas)}: {one.gloss}" for one in glosses]
        )
    expect_seen(items.get_by_role("img"))
    assert items.first.locator(".said li").first.evaluate("one => getComputedStyle(one).display") == "list-item"
    # Another phrase asks anew; files are taken away again.
    field(page, "In a phrase that makes it plain").fill("bat cricket")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="“bat cricket”, best first")).to_be_visible()
    page.get_by_role("button", name="Remove the pictures").click()
    expect(page.locator("#ranking")).to_be_hidden()


def test_a_broken_file_gets_a_message_and_the_others_are_ranked(page, run):
    broken = [("<b>broken</b>.png", b"MZ" + bytes(5_000)), ("bomb.png", png(30_000, 30_000, 8, 2, b""))]
    field(page, "Word").fill("bat")
    upload(page, *broken, *drawn(run, 2))
    expect(page.get_by_role("alert")).to_contain_text("<b>broken</b>.png cannot be decoded: it is no picture")
    expect(page.get_by_role("alert")).to_contain_text("bomb.png is left out: too large.")
    expect(page.locator("#picture-list li .name")).to_have_count(2)
    upload(page, *broken[:1])
    expect(page.locator("#ranking")).to_be_hidden()
    expect(page.get_by_role("alert")).to_have_text(
        "<b>broken</b>.png cannot be decoded: it is no picture, or a broken one."
    )
    expect(page.locator("#chosen")).to_have_text("no preview")


DROP = """async (addresses) => {
  const dataTransfer = new DataTransfer();
  for (const address of addresses) {
    dataTransfer.items.add(new File([await (await fetch(address)).blob()], `${address.slice(-1)}.png`));
  }
  const how = { dataTransfer, bubbles: true, cancelable: true };
  for (const name of ["dragover", "drop"]) document.getElementById("drop").dispatchEvent(new DragEvent(name, how));
}"""


def test_pictures_are_dropped(page, run):
    field(page, "In a phrase that makes it plain").fill("bat cave")
    page.evaluate(DROP, ["/pictures/0", "/pictures/1"])
    expect(page.locator("#picture-list li .name")).to_have_count(2)


def test_what_is_missing_or_too_much_is_said(page, run):
    rank = page.get_by_role("button", name="Rank the pictures")
    rank.click()
    expect(page.get_by_role("alert")).to_have_text("Choose some pictures first.")
    upload(page, *drawn(run, 1) * 21)
    rank.click()
    expect(page.get_by_role("alert")).to_contain_text("Type the word or the phrase")
    field(page, "Word").fill("bat")
    rank.click()
    expect(page.get_by_role("alert")).to_have_text("21 files are chosen; at most 20 are ranked at once.")


# --- the server


def test_a_busy_server_is_asked_again_and_one_that_is_gone_is_told(page):
    tries = []

    def busy(route):
        tries.append(1)
        if len(tries) < 3:
            route.fulfill(status=503, json={"error": "Too many ask at once: try again in a moment."})
        else:
            route.continue_()

    page.route("**/api/words", busy)
    field(page, "Sentence").fill("a bat")
    page.keyboard.press("Enter")
    expect(page.locator("#marked button")).to_have_text(["bat"])
    page.route("**/api/senses", lambda route: route.abort())
    page.locator("#marked button").click()
    expect(page.get_by_role("alert")).to_have_text("The server does not answer. Is it still running?")


def test_without_pictures_and_index_the_page_says_what_to_type(open_page, run, tmp_path):
    alone = shutil.copytree(run.model, tmp_path / "model", ignore=shutil.ignore_patterns("cache"))
    opened = Disambiguator.from_pretrained(alone, archives=run.archives, download=False)
    with served_here(make_app(opened, NOTHING, "model")) as url:
        page = open_page(url=url)
        page.get_by_role("button", name="He swung the bat and ran.").click()
        expect(page.locator("#sense-list > li")).to_have_count(2)
        expect(page.locator("#senses .note")).to_contain_text("polclip serve --model FOLDER --pictures FOLDER")
        field(page, "Word").fill("bat")
        upload(page, *drawn(run, 2))
        expect(page.locator("#picture-list > li")).to_have_count(2)
        expect(page.get_by_text("polclip index --model FOLDER")).to_be_visible()
        assert page.locator("#picture-list h4, .imagined, .query").count() == 0


# --- how it looks


@pytest.mark.parametrize("scheme", LIGHT_AND_DARK)
@pytest.mark.parametrize("size", WIDE_AND_NARROW, ids=("wide", "narrow"))
def test_it_fits_a_phone_and_is_read_in_light_and_in_dark(open_page, run, scheme, size):
    page = open_page(scheme, size)
    field(page, "Sentence").fill("a bat " + "x" * 200 + " and a star")
    page.keyboard.press("Enter")
    page.locator("#marked button").first.click()
    field(page, "In a phrase that makes it plain").fill("bat " + "cave" * 50)
    upload(page, ("x" * 180 + ".png", drawn(run, 1)[0][1]), *drawn(run, 2), ("broken.png", b"no picture"))
    expect(page.get_by_role("alert")).to_contain_text("broken.png")
    expect(page.locator("#picture-list h4")).to_have_count(3)
    expect(page.locator("#sense-list .imagined img")).to_have_count(10)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.evaluate(CONTRAST) == []
    paper = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (int(paper[0]) > 200) is (scheme == "light")
    small = page.locator("button:visible, input:visible, textarea:visible").evaluate_all(
        "all => all.filter((one) => one.offsetHeight < 24 || one.offsetWidth < 24).map((one) => one.textContent)"
    )
    assert small == []
