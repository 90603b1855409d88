"""The report page: its numbers are the inputs', its marks are right, it loads and runs nothing foreign."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from PIL import Image
from report_fixture import BENCHMARKS, SENSES, build, read_scores, set_times

from polclip.errors import UserError
from polclip.evaluation.subsets import TrainingSenses
from polclip.files import read_json, read_json_lines, write_json, write_json_lines
from polclip.records import Picture, TextualInstance, VisualInstance, read_records, write_records
from polclip.reporting.comparison import MOST_ROWS, as_json, compare
from polclip.reporting.costs import costs_by_rule
from polclip.reporting.failures import textual_failures
from polclip.reporting.figures import over_seeds
from polclip.reporting.gallery import chosen, textual_example, thumbnail
from polclip.reporting.inputs import ReportInputs, ReportSettings
from polclip.reporting.outcomes import Learned, reasons, wilson
from polclip.reporting.page import read_logs, write_report
from polclip.reporting.summary import headline, score_table, verdict
from polclip.reporting.tables import score_rows, write_scores, write_significance

VOID = {"meta", "link", "img", "br", "hr", "input", "line", "path", "use"}


class Node:
    def __init__(self, tag: str, attributes: dict, parent: "Node | None"):
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Node | str] = []

    def text(self) -> str:
        whole = "".join(child if isinstance(child, str) else child.text() for child in self.children)
        return re.sub(r"\s+", " ", whole).strip()

    def all(self, tag: str | None = None, **wanted: str) -> list["Node"]:
        """Descendants by tag and by attribute; class_ matches one of the classes."""
        found = []
        for child in self.children:
            if isinstance(child, Node):
                fits = all(
                    value in (child.attributes.get("class") or "").split()
                    if name == "class_"
                    else child.attributes.get(name.replace("_", "-")) == value
                    for name, value in wanted.items()
                )
                found += [child] if fits and tag in (None, child.tag) else []
                found += child.all(tag, **wanted)
        return found

    def one(self, tag: str | None = None, **wanted: str) -> "Node":
        found = self.all(tag, **wanted)
        assert len(found) == 1, f"{tag} {wanted}: {len(found)} found"
        return found[0]


class Tree(HTMLParser):
    """Builds nodes and fails on a tag that is closed out of order."""

    def __init__(self, html: str):
        super().__init__()
        self.root = self.here = Node("root", {}, None)
        self.feed(html)
        assert self.here is self.root, f"<{self.here.tag}> is never closed"

    def handle_starttag(self, tag: str, attrs: list) -> None:
        node = Node(tag, dict(attrs), self.here)
        self.here.children.append(node)
        if tag not in VOID:
            self.here = node

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.here.children.append(Node(tag, dict(attrs), self.here))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.here.tag == tag, f"<{self.here.tag}> closed by </{tag}>"
            self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.children.append(data)


def page_of(root: Path, inputs: ReportInputs, **settings: object) -> tuple[Node, str]:
    write_report(ReportSettings(name="fixture", picture_root=str(root), **settings), inputs, root / "index.html")
    html = (root / "index.html").read_text(encoding="utf-8")
    return Tree(html).root, html


def programs(tree: Node) -> list[Node]:
    """The scripts that a browser runs; data stand in one with a type of its own."""
    return [script for script in tree.all("script") if "type" not in script.attributes]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    return root, build(root)


@pytest.fixture(scope="module")
def page(run):
    return page_of(*run)


def test_the_tables_show_the_scores_that_were_given(page, run):
    tree, _ = page
    files = read_scores(run[1])
    for task, benchmarks in (("textual", ["wordnet_examples"]), ("visual", ["unseen_style", "hard"])):
        table = tree.one("section", id=task).all("table", class_="scores")[0]
        metrics = ["f1"] if task == "textual" else ["hr@1", "mrr"]
        for experiment in ("main", "text_only", "no_fusion", "zero_shot", "random"):
            (row,) = [
                row for row in table.all("tr") if row.all("th") and row.all("th")[0].text().startswith(experiment)
            ]
            cells = [cell.text() for cell in row.all("td")]
            assert len(cells) == len(benchmarks) * len(metrics)
            for cell, (benchmark, metric) in zip(cells, [(b, m) for b in benchmarks for m in metrics], strict=True):
                rows = [
                    line
                    for file in files
                    if (file["experiment"], file["benchmark"]) == (experiment, benchmark)
                    for line in file["rows"]
                    if line["metric"] == metric and line["subset"] == "all"
                ]
                values = pd.Series([line["value"] for line in rows])
                low, high = (sum(line[end] for line in rows) / len(rows) for end in ("ci_low", "ci_high"))
                spread = f" ±{values.std(ddof=1):.1f}" if len(rows) > 1 else ""
                assert cell.replace("±", " ±").replace("  ", " ") == (
                    f"{values.mean():.1f}{spread}[{low:.1f}, {high:.1f}]"
                )
    assert "n 40" in tree.one("section", id="visual").all("thead")[0].text()


def test_the_header_says_what_was_run_and_what_came_out(page, run):
    tree, _ = page
    hero = tree.one("header", class_="hero").text()
    assert "fixture" in hero and "0123456789ab" in hero and "1, 2, 3" in hero
    main = [f for f in read_scores(run[1]) if f["experiment"] == "main" and f["benchmark"] == "hard"]
    mean = sum(f["rows"][0]["value"] for f in main) / 3
    # Runs of white space, the unbreakable one too, are one space in `text()`.
    assert f"{mean:.1f} % on hard" in tree.one("div", class_="headline").text()


def test_the_corpora_trained_on_are_those_of_the_config(page):
    for task in ("textual", "visual"):
        said = page[0].one("section", id=task).text()
        assert "Trained on wordnet_examples/train (19 instances) and pictures/train (" in said
        assert "hard/test (" not in said


def test_the_date_is_that_of_the_newest_input(tmp_path):
    inputs = replace(build(tmp_path, count=12), metrics=[])
    set_times(inputs, 1_600_000_000)
    tree, _ = page_of(tmp_path, inputs)
    assert tree.one("time").text() == "13 September 2020, 12:26 UTC"


def test_the_same_inputs_give_the_same_bytes(run):
    inputs = replace(run[1], metrics=run[1].metrics[:1])
    assert page_of(run[0], inputs)[1] == page_of(run[0], inputs)[1]


def test_a_score_is_bold_only_where_its_interval_is_apart():
    def rows(name, value, half):
        return {
            "experiment": name, "seed": 1, "task": "visual", "benchmark": "hard", "subset": "all",
            "metric": "hr@1", "value": value, "ci_low": value - half, "ci_high": value + half, "n": 100,
        }  # fmt: skip

    apart = pd.DataFrame([rows("main", 80, 4), rows("no_fusion", 70, 4), rows("random", 10, 3)])
    touching = pd.DataFrame([rows("main", 80, 4), rows("no_fusion", 73, 4), rows("random", 10, 3)])
    for scores, best in ((apart, ["main"]), (touching, [])):
        table = score_table(scores, "visual", "main", ["random"])
        assert [key[0] for key, cell in table.cells.items() if cell.best] == best
    assert "70.0 points above random" in headline([score_table(apart, "visual", "main", ["random"])], "main")[0]
    (alone,) = headline([score_table(apart, "visual", "random", ["random"])], "random")
    assert "points" not in alone  # a baseline is not compared with itself


def test_old_and_corrected_labels_stand_side_by_side_with_the_macro_f1(tmp_path, run):
    rows = [
        {"experiment": name, "seed": 1, "task": "textual", "benchmark": benchmark, "subset": subset, "metric": metric}
        | {"value": value + shift, "ci_low": value - 1, "ci_high": value + 1, "n": n}
        for name, shift in (("main", 0.25), ("random", -0.25))
        for benchmark, subset, metric, value, n in (
            ("ALL", "all", "f1", 70, 7253), ("ALL", "all", "macro_f1", 60, 7253), ("ALL", "n", "f1", 75, 4300),
            ("ALL", "amended", "f1", 65, 4917), ("ALL", "amended", "macro_f1", 55, 4917),
            ("ALLamended", "all", "f1", 68, 4917), ("ALLamended", "all", "macro_f1", 58, 4917),
            ("ALLamended", "unseen_sense", "f1", 20, 559), ("examples", "all", "f1", 50, 9),
            ("examples", "all", "macro_f1", 40, 9),
        )
    ]  # fmt: skip
    table = score_table(pd.DataFrame(rows), "textual", "main", ["random"])
    old = "ALL, amended instances"
    assert table.columns == [
        *((name, metric) for name in ("ALL", old, "ALLamended") for metric in ("f1", "macro_f1")), ("examples", "f1"),
    ]  # fmt: skip
    assert table.get("main", old, "f1").mean == 65.25 and table.sizes((old, "f1")) == [4917]
    assert [benchmark for benchmark, _ in table.primary] == ["ALL", "ALLamended", "examples"]
    pd.DataFrame(rows).to_csv(tmp_path / "scores.tsv", sep="\t", index=False)
    tree, _ = page_of(run[0], replace(run[1], scores=tmp_path / "scores.tsv"))
    whole, parts = tree.one("section", id="textual").all("table", class_="scores")
    heads = [head.text() for head in whole.all("thead")[0].all("th")]
    assert heads[1:5] == ["ALLF1n 7,253", "ALLmacro F1n 7,253", f"{old}F1n 4,917", f"{old}macro F1n 4,917"]
    assert "with their old labels" in whole.one("caption").text()
    named = [row.all("td")[0].text() for row in parts.all("tr") if row.all("td")]
    assert named == ["noun", "instances of ALLamended, old labels", "sense not seen"]


def test_a_paired_difference_is_put_into_words():
    def test(difference: float, low: float, high: float) -> pd.Series:
        names = {"experiment_a": "main", "experiment_b": "no_fusion"}
        return pd.Series(names | {"difference": difference, "ci_low": low, "ci_high": high})

    assert verdict(test(2.0, 0.5, 3.5)) == "main is better than no_fusion by 2.0 points [+0.5, +3.5]."
    assert "no gain separable from noise, +2.0" in verdict(test(2.0, -0.5, 4.5))
    assert "main is worse than no_fusion by 2.0 points" in verdict(test(-2.0, -3.0, -1.0))


def test_gold_prediction_and_rivals_are_marked_by_sign_and_class(page, run):
    tree, _ = page
    _, inputs = run
    cards = tree.one(id="visual-examples").all("article")
    assert {card.attributes["data-benchmark"] for card in cards} == {"unseen_style", "hard"}
    for card in cards:
        name = card.attributes["data-benchmark"]
        (instance,) = [
            i
            for i in read_records(inputs.instances[name], VisualInstance)
            if i.instance_id == card.attributes["data-instance"]
        ]
        path = next(p for p in inputs.predictions if p.match(f"main/seed-1/{name}.jsonl"))
        (ranking,) = [p["candidates"] for p in read_json_lines(path) if p["instance_id"] == instance.instance_id]
        tiles = card.all("li", class_="tile")
        assert [tile.attributes["data-picture"] for tile in tiles] == ranking
        for tile in tiles:
            picture, marks = tile.attributes["data-picture"], tile.one("div", class_="badges").text()
            for mark, expected in (
                ("gold", picture == instance.gold),
                ("pick", picture == ranking[0]),
                ("rival", picture in instance.rivals),
            ):
                assert (mark in marks) == (mark in tile.attributes["class"].split()) == expected
            assert ("gold" in tile.one("img").attributes["alt"]) == (picture == instance.gold)
        right = ranking[0] == instance.gold
        assert card.attributes["data-outcome"] == ("right" if right else "wrong")
        assert ("✓ right" if right else "✗ wrong") in card.text()


def test_examples_are_the_smallest_hashes_not_the_first_instances(run):
    path = run[1].instances["hard"]
    golds = {i.instance_id: i.gold for i in read_records(path, VisualInstance)}
    answers = {key: gold if int(key[-1]) % 2 else "x" for key, gold in golds.items()}
    first = chosen(path, VisualInstance, answers, 3, seed=0)
    assert [why is None for _, why in first] == [True, False] * 3
    assert first == chosen(path, VisualInstance, answers, 3, seed=0)
    assert {i.instance_id for i, _ in first} != {i.instance_id for i, _ in chosen(path, VisualInstance, answers, 3, 1)}
    none_wrong = chosen(path, VisualInstance, golds, 3, seed=0)
    assert [why for _, why in none_wrong] == [None] * 3


def test_each_reason_has_examples_of_its_own(run):
    path = run[1].instances["hard"]
    answers = {i.instance_id: "x" for i in read_records(path, VisualInstance)}
    rare = sorted(answers)[-1]

    def why(instance, _):
        return ["common", *(["rare"] if instance.instance_id == rare else [])]

    found = chosen(path, VisualInstance, answers, 2, 0, why)
    assert rare in {i.instance_id for i, _ in found} and len(found) in (2, 3)
    assert dict((i.instance_id, told) for i, told in found)[rare] == ["common", "rare"]


def test_a_sentence_shows_its_target_and_its_senses(page):
    tree, _ = page
    gloss = {key: text for _, key, text, _ in SENSES}
    cards = tree.one(id="textual-examples").all("article")
    assert cards
    for card in cards:
        word = card.one("h3").text().split()[0]
        assert card.one("mark").text() == word
        for sense in card.all("li", class_="sense"):
            assert gloss[sense.attributes["data-sense"]] in sense.text()
        gold = [s for s in card.all("li", class_="sense") if "✓ gold" in s.text()]
        assert len(gold) == 1 and "gold" in gold[0].attributes["class"]
        picked = card.all("li", class_="sense")[0]
        assert "▲ pick" in picked.text()
        assert (picked is gold[0]) == (card.attributes["data-outcome"] == "right")


def test_a_gold_sense_is_shown_however_low_and_bars_follow_the_scores():
    keys = [f"set%2:30:{place:02d}::" for place in range(9)]
    instance = TextualInstance("i", "s", ["We", "set", "off"], 1, 2, "set", "v", keys, [keys[8]])
    example = textual_example("b", instance, ["a later sense"], keys, [4.0 - place for place in range(9)], {}, most=3)
    assert [sense.rank for sense in example.senses] == [1, 2, 3, 9]
    assert example.hidden == 5 and (example.before, example.target, example.after) == ("We ", "set", " off")
    assert [sense.width for sense in example.senses] == [100.0, 87.5, 75.0, 0.0]
    unanswered = textual_example("b", instance, ["no answer"], [], [], {})
    assert not unanswered.right and unanswered.senses[0].rank is None


def test_why_a_wrong_answer_is_wrong_is_read_off_the_data():
    sky, actor, other = ("star%1:17:01::", "star%1:18:00::", "star%1:10:00::")
    learned = Learned(TrainingSenses(frozenset({"star#n"}), frozenset({actor})), frozenset({"1-n"}))
    word = TextualInstance("i", "s", ["a", "star"], 1, 2, "star", "n", [sky, actor], [sky])
    assert reasons(word, actor, learned, {}) == ["a later sense", "its sense is not in training"]
    assert reasons(replace(word, gold=[actor]), sky, learned, {}) == ["the first sense"]
    assert reasons(replace(word, gold=[other]), sky, learned, {})[1] == "the gold is no candidate"
    assert reasons(replace(word, lemma="sun"), None, learned, {}) == ["no answer", "its word is not in training"]
    assert reasons(word, actor, Learned(), {}) == ["a later sense"]  # nothing is known of training
    shown = {i: Picture(i, "", "", "", i, s, "") for i, s in (("a", "1-n"), ("b", "2-n"), ("c", "2-n"), ("d", None))}
    query = VisualInstance("i", "en", "star", "star actor", list("abcd"), "b", None, ["a"])
    assert reasons(query, "a", learned, shown) == ["another sense of the same word", "no training picture of its sense"]
    assert reasons(query, "c", learned, shown)[1:] == [
        "the choice shows the same sense",
        "no training picture of its sense",
    ]
    assert reasons(replace(query, gold="a"), "d", learned, shown) == ["another concept"]
    assert reasons(replace(query, gold="lost"), "d", learned, shown) == [
        "another concept",
        "its picture is not at hand",
    ]


def test_the_page_asks_for_nothing_and_runs_only_its_own_script(page):
    tree, html = page
    for node in tree.all():
        for name in ("src", "href", "xlink:href", "srcset", "action", "poster", "data"):
            value = node.attributes.get(name)
            own = value is None or value.startswith(("data:", "#")) or (node.tag, value) == ("a", "data.html")
            assert own, f"{node.tag} {name}={value[:60]}"
    style = tree.one("style").text()
    assert "@import" not in style and "url(" not in style
    assert re.search(r"default-src 'none'; .*script-src 'sha256-[\w+/]+=*'", html)
    assert len(programs(tree)) == 1
    assert len(html) < 6_000_000


def test_the_page_is_accessible(page):
    tree, html = page
    ids = [node.attributes["id"] for node in tree.all() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    assert {node.attributes["href"] for node in tree.all("a")} <= {"data.html", *(f"#{one}" for one in ids)}
    assert all(image.attributes.get("alt") for image in tree.all("img"))
    assert all(head.attributes.get("scope") for head in tree.all("th"))
    assert all(table.all("caption") for table in tree.all("table"))
    figures = [svg for svg in tree.all("svg") if svg.attributes.get("aria-hidden") != "true"]
    assert figures and all(svg.attributes["role"] == "img" and svg.attributes["aria-label"] for svg in figures)
    levels = [int(node.tag[1]) for node in tree.all() if re.fullmatch("h[1-6]", node.tag)]
    assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))
    assert "prefers-color-scheme: dark" in html and "@media print" in html


def test_figures_follow_the_theme(page):
    _, html = page
    drawn = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert "var(--s0)" in drawn and "var(--ink)" in drawn
    assert not re.search("#0[ab]0[ab]0", drawn), "a stand-in colour was left in a figure"


def test_hostile_text_stays_text(tmp_path):
    inputs = replace(build(tmp_path, count=12), metrics=[])
    bad = '<script>alert("x")</script>'
    rename = [replace(i, word=bad, phrase=bad + "$x$") for i in read_records(inputs.instances["hard"], VisualInstance)]
    write_records(inputs.instances["hard"], VisualInstance, rename)
    sentences = [
        replace(i, tokens=[*i.tokens, bad]) for i in read_records(inputs.instances["wordnet_examples"], TextualInstance)
    ]
    write_records(inputs.instances["wordnet_examples"], TextualInstance, sentences)
    provenance = read_json(inputs.provenance)
    provenance["skipped"][0]["reason"] = provenance["config"]["name"] = bad
    provenance["archives"][0]["licence"] = '"><img src=http://example.org/x>'
    write_json(inputs.provenance, provenance)
    scores = Path(inputs.scores)
    scores.write_text(scores.read_text().replace("no_fusion", "<b>$no$</b>"))
    tree, html = page_of(tmp_path, inputs)
    (program,) = programs(tree)
    assert (
        "alert" not in program.text() and bad in json.loads(tree.one(id="answers").text())["hard"]["rows"][0]["target"]
    )
    assert bad not in html and "&lt;script&gt;" in html
    assert not [image for image in tree.all("img") if image.attributes["src"].startswith("http")]
    assert bad + "$x$" in [quote.text() for quote in tree.one(id="visual-examples").all("q")]
    assert "<b>$no$</b>" in tree.one("section", id="textual").text()


def test_parts_that_are_missing_leave_their_section_out(tmp_path):
    inputs = replace(build(tmp_path, count=12, textual_only=True), metrics=[])
    tree, _ = page_of(tmp_path, inputs)
    sections = {section.attributes["id"] for section in tree.all("section")}
    assert "textual" in sections and not sections & {"visual", "gallery"}
    bare, _ = page_of(tmp_path, ReportInputs(scores=inputs.scores))
    assert [section.attributes["id"] for section in bare.all("section")] == ["textual"]
    assert bare.one("h1").text() == "Run fixture"


def test_a_broken_picture_is_a_named_gap(tmp_path):
    inputs = replace(build(tmp_path, count=12), metrics=[])
    for path in (tmp_path / "pictures" / "noto").glob("*.png"):
        path.write_bytes(b"no picture")
    tree, _ = page_of(tmp_path, inputs)
    lost = tree.one(id="visual-examples").all("span", class_="lost")
    assert lost and all("no picture" in gap.attributes["aria-label"] for gap in lost)


def test_the_header_counts_the_gold_pictures_that_could_not_be_read(tmp_path):
    inputs = replace(build(tmp_path, count=12), metrics=[])
    scores = pd.read_csv(inputs.scores, sep="\t")
    of_hard = scores[(scores["benchmark"] == "hard") & (scores["subset"] == "all")]
    readable = of_hard.assign(subset="readable_gold", n=of_hard["n"] - 3)
    pd.concat([scores, readable]).to_csv(inputs.scores, sep="\t", index=False)
    head = page_of(tmp_path, inputs)[0].one("section", id="visual").all("thead")[0].text()
    assert head.count("3 gold pictures could not be read") == 2  # HR@1 and MRR of one benchmark


def test_a_thumbnail_is_a_small_square_on_white(tmp_path):
    Image.new("RGBA", (300, 100), (0, 0, 0, 0)).save(tmp_path / "wide.png")
    uri = thumbnail(tmp_path / "wide.png", 64)
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as image:
        assert image.size == (64, 64) and image.getpixel((32, 32)) == (255, 255, 255)
    assert thumbnail(tmp_path / "absent.png", 64) is None


def test_failures_add_up(page, run):
    tree, _ = page
    _, inputs = run
    paths = [p for p in inputs.predictions if p.parts[-3] == "main" and p.stem == "hard"]
    instances = {i.instance_id: i for i in read_records(inputs.instances["hard"], VisualInstance)}
    wrong = [
        (instances[p["instance_id"]], p["candidates"][0])
        for path in paths
        for p in read_json_lines(path)
        if p["candidates"][0] != instances[p["instance_id"]].gold
    ]
    rivals = sum(answer in instance.rivals for instance, answer in wrong)
    times = {
        row.all("th")[0].text(): int(row.all("td")[-1].text())
        for table in tree.one("section", id="failures").all("table", class_="bars")
        if "when wrong" in table.one("caption").text()
        for row in table.all("tbody")[0].all("tr")
    }
    assert times["another sense of the same word"] == rivals
    assert wilson(0.5, 100) == pytest.approx((40.38, 59.62), abs=0.01)  # Wilson's interval of 50 in 100


def test_instances_without_candidates_have_a_range_of_their_own(tmp_path):
    keys = [f"bat%1:05:0{number}::" for number in range(3)]
    instances = [
        TextualInstance(name, "s", ["bat"], 0, 1, "bat", "n", keys[:count], keys[:1])
        for name, count in (("none", 0), ("one", 1), ("two", 2), ("three", 3))
    ]
    write_records(tmp_path / "i.parquet", TextualInstance, instances)
    answers = {"none": None, "one": keys[0], "two": keys[1], "three": keys[2]}
    tables = dict(textual_failures("tiny", tmp_path / "i.parquet", [answers], Learned()).ordered())
    rows = [(name, row.n, row.right) for name, row in tables["By number of candidates"]]
    assert rows == [("0", 1, 0), ("1\u20132", 2, 1), ("3\u20134", 1, 0)]


def test_two_experiments_are_compared_instance_by_instance(page, run):
    tree, inputs = page[0], run[1]
    section = tree.one("section", id="instances")
    assert section.one(id="compare").attributes.keys() >= {"hidden"}  # for those without a script the table alone
    data = json.loads(tree.one(id="answers").text())
    assert list(data) == list(BENCHMARKS)
    gold = {i.instance_id: i.gold for i in read_records(inputs.instances["hard"], VisualInstance)}

    def right(experiment, seed):
        path = next(p for p in inputs.predictions if p.match(f"{experiment}/seed-{seed}/hard.jsonl"))
        return [p["candidates"][0] == gold[p["instance_id"]] for p in read_json_lines(path)]

    one, other = right("main", 1), right("zero_shot", 0)
    pairs = list(zip(one, other, strict=True))
    counts = [pairs.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))]
    (row,) = [
        r
        for r in section.all("tr")
        if [c.text() for c in r.children if isinstance(c, Node)][:2] == ["hard", "zero_shot"]
    ]
    assert [int(cell.text()) for cell in row.all("td")[1:]] == counts
    hard = data["hard"]
    assert hard["experiments"][0] == "main" and hard["n"] == 40
    a, b = (hard["experiments"].index(name) for name in ("main", "zero_shot"))
    only = [r for r in hard["rows"] if r["answers"][a] in r["gold"] and r["answers"][b] not in r["gold"]]
    assert len(only) == counts[1]
    assert all(label[2].startswith("twemoji:") for label in hard["labels"])


def test_what_the_page_keeps_of_many_instances_is_bounded(tmp_path):
    words = ["word"] * 2000
    many = [
        TextualInstance(f"i{k}", f"s{k}", words, 1000, 1001, "bat", "n", ["a", "b"], ["a"])
        for k in range(3 * MOST_ROWS)
    ]
    write_records(tmp_path / "many.parquet", TextualInstance, many)
    answers = {"main": {x.instance_id: "a" for x in many}, "other": {x.instance_id: "b" for x in many}}
    found = compare("many", tmp_path / "many.parquet", TextualInstance, answers, 0)
    assert len(found.instances) == MOST_ROWS and found.differing == 3 * MOST_ROWS
    assert [vars(pair) for pair in found.pairs("main")] == [
        {"benchmark": "many", "first": "main", "second": "other", "both": 0, "only_first": 3 * MOST_ROWS}
        | {"only_second": 0, "neither": 0}
    ]
    text = as_json([found], {}, {})
    assert len(text) < 200_000 and "… word" in text and "</" not in text


def test_every_figure_is_a_file_of_its_own(run, tmp_path):
    write_report(ReportSettings(name="f", picture_root=str(run[0])), run[1], tmp_path / "i.html", tmp_path / "figures")
    drawn = re.findall(r'<svg[^>]* data-name="([^"]+)"', (tmp_path / "i.html").read_text(encoding="utf-8"))
    files = {path.stem: path for path in (tmp_path / "figures").iterdir()}
    assert set(files) == set(drawn) and len(drawn) == len(files) and {"forest", "bars-hard"} <= set(files)
    for path in files.values():
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in path.read_text(encoding="utf-8")


def test_seeds_are_averaged_before_they_are_compared():
    runs = [
        [{"step": 0, "loss": 1.0}, {"step": 1, "loss": 3.0}],
        [{"step": 0, "loss": 2.0}, {"step": 1, "other": 9}],
    ]
    curve = over_seeds(runs, "loss")
    assert curve.to_dict("list") == {
        "step": [0.0], "minutes": [0.0], "mean": [1.5], "low": [1.0], "high": [2.0],
    }  # fmt: skip
    binned = over_seeds([[{"step": step, "loss": float(step)} for step in range(1000)]], "loss", bins=10)
    assert len(binned) == 10 and binned["mean"][0] == pytest.approx(49.5)


def test_a_curve_over_time_joins_means_of_the_same_seeds():
    """A fast and a slow seed, one better than the other by 10: no saw."""
    runs = [[{"step": s, "seconds": s * pace, "dev_textual": 50 + 10 * seed + s} for s in range(9)] for seed, pace in
            enumerate((60, 240))]  # fmt: skip
    curve = over_seeds(runs, "dev_textual")
    assert curve["mean"].tolist() == [55 + s for s in range(9)]
    assert curve["minutes"].tolist() == [2.5 * s for s in range(9)]


def test_a_loss_that_an_experiment_does_not_have_is_not_drawn(tmp_path):
    """Trainings log 0 for it."""
    paths = [tmp_path / experiment / "seed-1" / "metrics.jsonl" for experiment in ("main", "text_only")]
    for path, sig in zip(paths, (0.5, 0.0), strict=True):
        write_json_lines(path, [{"step": step, "loss": 1.0, "loss_sig": sig * step} for step in range(3)])
    logs = read_logs(paths)
    assert list(over_seeds(logs["main"], "loss_sig")["mean"]) == [0, 0.5, 1]
    assert over_seeds(logs["text_only"], "loss_sig").empty and len(over_seeds(logs["text_only"], "loss")) == 3


def test_scores_are_gathered_in_order_and_a_broken_file_is_named(tmp_path):
    row = {"subset": "all", "metric": "f1", "value": 50.123456, "ci_low": 45, "ci_high": 55, "n": 9}
    good = {"experiment": "main", "seed": 1, "task": "textual", "benchmark": "ALL", "rows": [row]}
    write_json(tmp_path / "b.json", good)
    write_json(tmp_path / "a.json", good | {"experiment": "lesk"})
    write_scores([tmp_path / "b.json", tmp_path / "a.json"], tmp_path / "scores.tsv")
    lines = (tmp_path / "scores.tsv").read_text().splitlines()
    assert lines[0] == "experiment\tseed\ttask\tbenchmark\tsubset\tmetric\tvalue\tci_low\tci_high\tn"
    assert lines[1] == "main\t1\ttextual\tALL\tall\tf1\t50.1235\t45.0\t55.0\t9" and lines[2].startswith("lesk")
    write_json(tmp_path / "bad.json", {"experiment": "main"})
    with pytest.raises(UserError, match=r"bad\.json: not a score file, 'seed' is missing"):
        list(score_rows(tmp_path / "bad.json"))


def test_the_main_experiment_is_tested_against_the_others(run, tmp_path):
    _, inputs = run
    write_significance(inputs.predictions, inputs.instances, "main", tmp_path / "tests.tsv", resamples=50)
    tests = pd.read_csv(tmp_path / "tests.tsv", sep="\t")
    assert set(tests["experiment_a"]) == {"main"} and len(tests) == 4 * (1 + 2 + 2)
    means = pd.read_csv(inputs.scores, sep="\t").groupby(["experiment", "benchmark", "metric"])["value"].mean()
    for _, test in tests[tests["benchmark"] == "hard"].iterrows():
        a, b = (means[test[side], "hard", test["metric"]] for side in ("experiment_a", "experiment_b"))
        assert test["difference"] == pytest.approx(a - b, abs=1e-3)


def test_costs_are_summed_by_rule(tmp_path):
    header = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
    for name, seconds, peak in (("train/main/seed-1", "60.5", "900.1"), ("train/main/seed-2", "30", "1200"),
                                ("inventory", "0.1", "-")):  # fmt: skip
        path = tmp_path / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(header + "\t".join([seconds, "0:00:01", peak, *["-"] * 7]) + "\n")
    assert costs_by_rule(tmp_path, {"definitions": 0.42}) == [
        {"rule": "train", "jobs": 2, "seconds": 90.5, "peak_mb": 1200.0, "usd": 0.0},
        {"rule": "inventory", "jobs": 1, "seconds": 0.1, "peak_mb": 0.0, "usd": 0.0},
        {"rule": "definitions", "jobs": 0, "seconds": 0.0, "peak_mb": 0.0, "usd": 0.42},
    ]
    (tmp_path / "other.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(UserError, match=r"other\.tsv: not a benchmark file"):
        costs_by_rule(tmp_path)


def test_definitions_are_counted_priced_and_shown(page, run):
    section = page[0].one("section", id="definitions")
    assert (
        "96 of 120 instances of the dev and test sets have one (80.0 %); the others are asked without" in section.text()
    )
    assert "120 answers for 0.02 USD" in section.text()
    counts, examples = section.all("table")
    assert [head.text() for head in counts.all("th", scope="col")] == [
        "Corpus", "Source", "Instances", "Defined", "Refused", "Overlong", "Requests", "Tokens in", "Tokens out", "USD",
    ]  # fmt: skip
    rows = {row.one("th").text(): [cell.text() for cell in row.all("td")] for row in counts.one("tbody").all("tr")}
    assert list(rows) == ["wordnet_examples/test", "unseen_style/test", "hard/test"]
    assert rows["hard/test"] == ["openaigpt-3.5-turbo-1106", "40", "32", "4", "4", "40", "2,440", "1,500", "0.0054"]
    for corpus, number in (("wordnet_examples", 4), ("hard", 4)):
        told = {line["instance_id"]: line for line in read_json_lines(run[0] / f"definitions/{corpus}.test.jsonl")}
        shown = [row for row in examples.all("tr") if row.all("th")[0].text() == f"{corpus}/test"]
        assert len(shown) == number
        for row in shown:
            context, said = (cell.text() for cell in row.all("td"))
            assert (
                row.one("mark").text() in {word for word, *_ in SENSES} and context.count(row.one("mark").text()) >= 1
            )
            usable = said in {gloss for _, _, gloss, _ in SENSES}
            assert usable or (said.startswith(("Refused I'm sorry", "Overlong a word that means")) and len(said) < 215)
        assert sum(row.all("q") != [] for row in shown) == 2 and len(told) == 40


def test_without_definitions_the_page_says_nothing_of_them(tmp_path):
    inputs = build(tmp_path, count=12, textual_only=True)
    (cost,), ((_, told),) = inputs.definition_costs, inputs.definitions.items()
    write_json(cost, read_json(cost) | {"source": "none", "model": None, "defined": 0, "flags": {}, "requests": 0})
    write_json_lines(told, [line | {"definition": None, "flag": None} for line in read_json_lines(told)])
    for given in (inputs, replace(inputs, definition_costs=[], definitions={})):
        tree, html = page_of(tmp_path, given)
        assert not tree.all(id="definitions") and "#definitions" not in html
    write_json(cost, read_json(cost) | {"source": "wordnet", "flags": {"no_overlap": 1, "new_flag": 11}})
    section = page_of(tmp_path, inputs)[0].one("section", id="definitions")
    heads = [head.text() for head in section.all("th", scope="col")]
    assert heads[4:6] == ["No gloss fits", "New flag"] and "USD," not in section.text()


def test_refusals_name_what_to_do(tmp_path):
    inputs = replace(build(tmp_path, count=12), metrics=[])
    moved = tmp_path / "elsewhere.jsonl"
    write_json_lines(moved, [])
    with pytest.raises(UserError, match=r"expected a file in a folder \{experiment\}/seed-\{number\}/"):
        page_of(tmp_path, replace(inputs, predictions=[moved]))
    Path(inputs.scores).write_text("experiment\tseed\n")
    with pytest.raises(UserError, match="the columns task, benchmark"):
        page_of(tmp_path, inputs)


def test_all_benchmarks_of_the_fixture_are_on_the_page(page):
    assert all(name in page[0].one("main").text() for name in BENCHMARKS)
