"""`polclip senses`: words of texts with their senses, ranked by a model."""

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polclip.cli.common import (
    Archives,
    AsJson,
    Cache,
    Device,
    Mirror,
    Model,
    Offline,
    finish,
    one_sentence,
    opened,
    prints_utf8,
)
from polclip.cli.inputs import Asked, batches, format_of, read_asked
from polclip.corpora.pos_tags import ALLOWED as POS_TAGS
from polclip.corpora.pos_tags import wordnet_pos
from polclip.errors import UserError

if TYPE_CHECKING:
    from polclip.answers import TextSenses
    from polclip.disambiguator import Disambiguator

BATCH = 32  # texts
SHOWN_OF_TOO_LONG = 200  # characters


def senses(
    model: Model,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="A text; without it texts are read.")] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="WORD", help="The word asked for, as it stands or as its lemma; without it all words."),
    ] = None,
    pos: Annotated[
        str | None,
        typer.Option(
            metavar="n|v|a|r", help="Its part of speech, or a tag such as NOUN or VBD; without it those of all compete."
        ),
    ] = None,
    lemma: Annotated[
        str | None, typer.Option(metavar="LEMMA", help="Its lemma, where it is known; without it all lemmas compete.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Read texts from this file instead of stdin.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="text|jsonl|json|csv|tsv", help="Of the texts; unless given the file's ending says."
        ),
    ] = None,
    top: Annotated[
        int, typer.Option(min=0, metavar="K", help="Print the best K senses of each word; 0 prints all.")
    ] = 0,
    as_json: AsJson = False,
    archives: Archives = None,
    cache: Cache = None,
    mirror: Mirror = None,
    offline: Offline = False,
    device: Device = "cpu",
) -> None:
    """Rank the WordNet senses of words in text.

    Give one TEXT, or texts on stdin or in --file: a text a line, JSON Lines ({"text": ..., "target": ..., "pos": ...,
    "lemma": ..., "id": ...}, all but text optional, target a word or its two character positions), a JSON array of
    such objects, or CSV or TSV with such columns; all of it in UTF-8. Without a target all content words are answered.
    They may overlap: "made it" comes before "made". Answers come in the same order while the input is read, with --json
    one object per text:

    \b
    {"text", "words": [{"target", "start", "end", "senses": [...], "reason"}], "reason"}
    of senses: {"sense_key", "synset_id", "lemma", "pos", "gloss", "score", "probability"}

    `probability` is the softmax of the scores over a word's candidates. `reason` says why there is no answer, and is
    null where there is one. Exit code 0: something was answered; 1: nothing was; 2: the call is wrong or something is
    missing.

    \b
    Examples:
    polclip senses "The bat flew off" --target bat --model results/demo/models/main/seed-42
    polclip senses --json --model results/demo/models/main/seed-42 < sentences.txt > senses.jsonl
    """
    with one_sentence():
        if text is not None and file is not None:
            raise UserError("Give a TEXT or --file, not both.")
        if text is None and file is None and sys.stdin.isatty():
            raise UserError("Give a TEXT, --file FILE, or texts on stdin.")
        if pos is not None and wordnet_pos(pos) is None:
            raise UserError(f"--pos: {pos!r} is not allowed; allowed: {POS_TAGS}. For example: --pos n")
        form = format_of("" if file is None else file.name, form)
        disambiguator = opened(model, archives, cache, mirror, offline, device)
        if text is not None:
            finish(_answer(disambiguator, iter([Asked(text, target, pos, lemma)]), top, as_json))
            return
        try:
            stream = nullcontext(sys.stdin.buffer) if file is None else file.open("rb")
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error.strerror}).") from error
        with stream as opened_stream:
            name = "stdin" if file is None else str(file)
            finish(_answer(disambiguator, read_asked(opened_stream, name, form, target, pos, lemma), top, as_json))


def _answer(disambiguator: "Disambiguator", asked: Iterator[Asked], top: int, as_json: bool) -> bool:
    """Print the answers as they come; return whether there was any. Print on stderr how many records are unreadable."""
    from tqdm import tqdm

    answered, records, unreadable = False, 0, []
    with tqdm(desc="senses", unit="text", delay=5, mininterval=5, leave=False, file=sys.stderr) as progress:
        for some in batches(asked, BATCH):
            for one, answer in zip(some, _senses(disambiguator, some), strict=True):
                answered = answered or any(word.senses for word in answer.words)
                if top > 0:
                    words = tuple(replace(word, senses=word.senses[:top]) for word in answer.words)
                    answer = replace(answer, words=words)
                print(_as_json(one, answer) if as_json else _as_text(answer))
            sys.stdout.flush()  # who reads along need not wait for the end
            progress.update(len(some))
            records += len(some)
            unreadable += [one.reason for one in some if one.reason is not None]
    if unreadable:
        typer.echo(f"{len(unreadable):,} of {records:,} records cannot be read, the first: {unreadable[0]}", err=True)
    elif not records:
        typer.echo("There is no text to read.", err=True)
    return answered


def _senses(disambiguator: "Disambiguator", some: list[Asked]) -> "list[TextSenses]":
    from polclip.answers import TextSenses

    good = [one for one in some if one.reason is None]
    columns = [[getattr(one, name) for one in good] for name in ("text", "target", "pos", "lemma")]
    answers = iter(disambiguator.senses(*columns))
    return [next(answers) if one.reason is None else TextSenses(one.text, (), one.reason) for one in some]


def _as_json(asked: Asked, answer: "TextSenses") -> str:
    given_back = {} if asked.id is None else {"id": asked.id}
    return json.dumps(given_back | vars(answer), ensure_ascii=not prints_utf8(), default=vars)


def _as_text(answer: "TextSenses") -> str:
    from polclip.answers import Reason

    text = answer.text
    lines = [f"{text[:SHOWN_OF_TOO_LONG]} ..." if answer.reason is Reason.TEXT_TOO_LONG else text]
    if answer.reason:
        lines.append(f"  {answer.reason}")
    for word in answer.words:
        lines.append(f"  {word.target}" + (f": {word.reason}" if word.reason else ""))
        lines += [f"    {s.probability:6.1%}  {s.sense_key:28}  {s.gloss}" for s in word.senses]
    return "\n".join(lines)
