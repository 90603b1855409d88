"""The official scorers' definitions, written down a second time, on 1,000 random files each.

Textual (Raganato et al. 2017): lines without a key and ids outside the gold are passed over, keys of lines of one id
put together; per answered id `ok += |answers in gold| / |answers|`; P = ok / answered ids,
R = ok / gold ids. Visual (SemEval-2023 task 1): HR@1 and mean reciprocal rank; over languages, the plain mean.
"""

import random
from fractions import Fraction

import pytest

from polclip.evaluation.score_files import score_textual_file, score_visual_file

FILES = 1000
SETS = ("senseval2", "senseval3", "semeval2015")
POS = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}


def reference_textual(gold_text, answer_text, keep):
    """(P, R, F1) times 100 of the gold lines whose id and first key `keep` accepts, in exact fractions."""
    gold, answers = {}, {}
    for text, kept in ((gold_text, gold), (answer_text, answers)):
        for line in text.splitlines():
            fields = line.split()
            if len(fields) > 1:
                kept.setdefault(fields[0], []).extend(fields[1:])
    asked = {name for name, keys in gold.items() if keep(name, keys[0])}
    ok, answered = Fraction(0), 0
    for name in asked & set(answers):
        distinct = set(answers[name])
        ok += Fraction(sum(1 for answer in distinct if answer in gold[name]), len(distinct))
        answered += 1
    p = ok / answered if answered else Fraction(0)
    r = ok / len(asked)
    return [float(100 * value) for value in (p, r, 2 * p * r / (p + r) if p + r else Fraction(0))]


def random_files(chance):
    """Gold and answers: several keys and answers, the same answer twice, gaps, ids outside the gold, odd lines."""
    keys = [f"w{number}%{chance.choice('12345')}:0{number % 10}:00::" for number in range(chance.randint(2, 25))]
    sets = SETS[: chance.randint(1, 3)]
    names = [f"{chance.choice(sets)}.d000.s{at:03d}.t000" for at in range(chance.randint(1, 40))]
    gold = {name: chance.sample(keys, chance.randint(1, min(4, len(keys)))) for name in names}
    skill, gap = chance.random(), chance.choice([0, 0.1, 0.9])
    answers = {}
    for name, right in gold.items():
        if chance.random() >= gap:
            answers[name] = [chance.choice(right if chance.random() < skill else keys) for _ in range(4)]
            answers[name] = answers[name][: chance.choice([1, 1, 2, 4])]
    if not answers:  # a file without an answer is refused
        answers[names[0]] = [keys[0]]
    shuffled = chance.sample(list(answers), len(answers))
    odd = [f"{names[0]} ", "elsewhere.d000.s000.t000 " + keys[0], f"{names[0]} {keys[-1]}"]
    lines = [f"{name} {' '.join(answers[name])}" for name in shuffled] + chance.sample(odd, chance.choice([0, 0, 1, 3]))
    return (
        "".join(f"{name} {' '.join(found)}\n" for name, found in gold.items()),
        "".join(line + "\n" for line in lines),
    )


def test_textual_scores_are_the_official_ones_on_random_files(tmp_path):
    chance = random.Random(20170403)
    gold_path, answers_path = tmp_path / "gold.key.txt", tmp_path / "answers.key.txt"
    sets_seen, pos_seen, with_gaps, several = set(), set(), 0, 0
    for _ in range(FILES):
        gold, answers = random_files(chance)
        gold_path.write_text(gold)
        answers_path.write_text(answers)
        found = score_textual_file(gold_path, answers_path)
        wanted = {"all": reference_textual(gold, answers, lambda name, key: True)}
        lines = [line.split(" ")[:2] for line in gold.splitlines()]
        for pos in {POS[key.split("%")[1][0]] for _, key in lines}:
            wanted[pos] = reference_textual(gold, answers, lambda name, key, pos=pos: POS[key.split("%")[1][0]] == pos)
        sets = {name.split(".")[0] for name, _ in lines}
        for part in sets if len(sets) > 1 else ():
            wanted[part] = reference_textual(gold, answers, lambda name, key, part=part: name.startswith(part))
        assert set(found["subsets"]) == set(wanted) - {"all"}
        for part, figures in (found["subsets"] | {"all": found}).items():
            given = [figures[name] for name in ("precision", "recall", "f1")]
            assert given == pytest.approx(wanted[part], abs=1e-9), (gold, answers, part)
        sets_seen |= sets
        pos_seen |= set(wanted) & set("nvar")
        with_gaps += found["answered"] < found["n"]
        several += any(line.count(" ") > 1 for line in answers.splitlines())
    assert sets_seen == set(SETS) and pos_seen == set("nvar")
    assert min(with_gaps, FILES - with_gaps, several) > FILES / 10  # the files were not all of one kind


def test_visual_scores_are_the_official_ones_on_random_rankings(tmp_path):
    chance = random.Random(20230713)
    gold_folder, folder = tmp_path / "gold", tmp_path / "predictions"
    gold_folder.mkdir()
    folder.mkdir()
    languages = ("en", "fa", "it")
    for _ in range(FILES // len(languages)):
        figures = {}
        for language in languages:
            gold, rankings, hits, inverse = [], [], Fraction(0), Fraction(0)
            for _ in range(chance.randint(1, 12)):
                ranking = chance.sample([f"image.{number}.jpg" for number in range(99)], 10)
                gold.append(chance.choice(ranking[: chance.choice([1, 3, 10])]))
                rankings.append("\t".join(ranking))
                place = next(at for at, picture in enumerate(ranking) if picture == gold[-1])
                hits += place == 0
                inverse += Fraction(1, place + 1)
            (gold_folder / f"{language}.test.gold.v1.1.txt").write_text("\n".join(gold) + "\n")
            (folder / f"prediction.{language}.txt").write_text("\n".join(rankings) + "\n")
            figures[language] = [float(100 * value / len(gold)) for value in (hits, inverse)]
        found = score_visual_file(gold_folder, folder)
        for language in languages:
            part = found["languages"][language]
            assert [part["hr@1"], part["mrr"]] == pytest.approx(figures[language], abs=6e-5)
        means = [sum(values) / len(languages) for values in zip(*figures.values(), strict=True)]
        assert [found["hr@1"], found["mrr"]] == pytest.approx(means, abs=6e-5)
