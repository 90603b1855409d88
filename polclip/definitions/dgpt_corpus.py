"""Chat lines to fine-tune a language model on, as D-GPT was: glosses of words in the sentences of training corpora."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from polclip.definitions.cost import price_of, tokens_in
from polclip.definitions.prompts import messages_of
from polclip.errors import UserError
from polclip.files import complete_or_absent, read_json_lines, sha256, write_json
from polclip.inventory import Inventory
from polclip.records import TextualInstance, VisualInstance, read_records

log = logging.getLogger(__name__)
# What OpenAI takes: https://platform.openai.com/docs/guides/supervised-fine-tuning
FEWEST_LINES, MOST_TOKENS = 10, 16_000
ROLES = ("system", "user", "assistant")
_DIGEST_BYTES = 16


def build_dgpt_corpus(
    train: Sequence[str | Path],
    textual: Sequence[str | Path],
    visual: Sequence[str | Path],
    inventory: Inventory,
    corpus: str | Path,
    about: str | Path,
    settings: Mapping,
) -> None:
    """Write the chat lines (JSON Lines), and what they are and would cost (JSON).

    Args:
        train: Parquet files of TextualInstance, with their gold senses.
        textual, visual: files of the dev and test sets; no sentence or phrase of theirs gets into the corpus.
        settings: the config's block `definitions`: at most `finetuning.lines` lines, every sense once before any twice,
            chosen by `finetuning.seed`, the same whatever the order of the files.

    A line: {"messages": [system, user, assistant]}, the first two as a question about the instance has them, the last
    the gloss of its gold sense. The JSON: see `check_dgpt_corpus`, and instances, senses (how many are in it), left_out
    (instances by reason). Raises UserError for fewer than 10 lines.
    """
    train = sorted(map(str, train))
    held_out = {_digest(_letters(text)) for text in _texts(textual, visual)}
    left_out: Counter[str] = Counter()
    counts: Counter[str] = Counter()

    def lines(left_out: Counter) -> Iterator[tuple[str, str]]:
        """(sense key, line) of each instance that may be in the corpus."""
        for path in train:
            for instance in read_records(path, TextualInstance):
                counts["instances"] += 1
                sense_key, reason = _usable(instance, inventory, held_out)
                if reason:
                    left_out[reason] += 1
                    continue
                line = _line(instance, inventory.synset_of(sense_key).gloss, settings)
                if tokens_in(line) > MOST_TOKENS:
                    left_out["too_long"] += 1
                else:
                    yield sense_key, json.dumps(line, ensure_ascii=False)

    finetuning = settings["finetuning"]
    chosen = _choose(lines(left_out), finetuning["lines"], finetuning["seed"])
    instances = counts["instances"]
    senses = set()
    with complete_or_absent(corpus) as temporary:
        with open(temporary, "w", encoding="utf-8") as file:
            for sense_key, line in lines(Counter()):
                digest = _digest(line)
                if digest in chosen:  # its first occurrence
                    chosen.remove(digest)
                    senses.add(sense_key)
                    file.write(line + "\n")
        counted = check_dgpt_corpus(temporary, settings, name=corpus)
    write_json(
        about,
        counted | {"instances": instances, "senses": len(senses), "left_out": dict(sorted(left_out.items()))},
    )
    log.info("%s: %s lines of %s senses, about %s USD", corpus, counted["lines"], len(senses), counted["usd"])


def check_dgpt_corpus(corpus: str | Path, settings: Mapping, name: str | Path = "") -> dict:
    """What a corpus is and would cost: lines, duplicates, tokens (about), epochs, model, usd, sha256.

    name: of the file in errors, where it is not there yet. Raises UserError for a line that is no chat of system, user
    and assistant, has an empty message or more than 16,000 tokens; for fewer than 10 lines; for a model of no price.
    """
    model, finetuning = settings["model"], settings["finetuning"]
    price = price_of(model, settings["prices"], settings["base_url"]).training
    if price is None and not settings["base_url"]:
        raise UserError(
            f"definitions.model: definitions.prices has no price of training {model!r}, so finetuning.max_usd could "
            "not be kept: write it there as `training`, or name a model that OpenAI fine-tunes."
        )
    seen: set[bytes] = set()
    lines = tokens = 0
    for lines, line in enumerate(read_json_lines(corpus), start=1):
        problem = _problem(line)
        if problem:
            raise UserError(f"{name or corpus}, line {lines}: {problem}.")
        tokens += tokens_in(line)
        seen.add(_digest(json.dumps(line, sort_keys=True)))
    if lines < FEWEST_LINES:
        raise UserError(
            f"{name or corpus} has {lines} lines; at least {FEWEST_LINES} are needed to fine-tune a model: name more "
            "corpora in corpora.textual.train, or set definitions.finetuning.corpus to none."
        )
    usd = tokens * finetuning["epochs"] * (price or 0) / 1e6
    return {"lines": lines, "duplicates": lines - len(seen), "tokens": tokens, "epochs": finetuning["epochs"]} | {
        "model": model,
        "usd": round(usd, 4),
        "sha256": sha256(corpus),
    }


def _texts(textual: Iterable[str | Path], visual: Iterable[str | Path]) -> Iterator[str]:
    """What is asked about in these files: sentences and phrases."""
    sentences = (instance.text for path in textual for instance in read_records(path, TextualInstance))
    return chain(sentences, (query.phrase for path in visual for query in read_records(path, VisualInstance)))


def _usable(instance: TextualInstance, inventory: Inventory, held_out: set[bytes]) -> tuple[str, str | None]:
    """(sense key, None) of an instance that may be in the corpus; or the reason why it may not."""
    if _digest(_letters(instance.text)) in held_out:
        return "", "in_dev_or_test"
    sense_key = next(filter(inventory.has, instance.gold), None)
    if sense_key is None:
        return "", "gold_not_in_wordnet"
    return (sense_key, None) if inventory.synset_of(sense_key).gloss.strip() else ("", "no_gloss")


def _line(instance: TextualInstance, gloss: str, settings: Mapping) -> dict:
    return {"messages": [*messages_of(instance, settings), {"role": "assistant", "content": gloss}]}


def _choose(lines: Iterable[tuple[str, str]], most: int, seed: int) -> set[bytes]:
    """Digests of the lines to take. What is drawn depends on the seed and the lines alone, not on their order."""
    by_sense: dict[str, set[bytes]] = {}
    for sense_key, line in lines:
        by_sense.setdefault(sense_key, set()).add(_digest(line))

    def drawn(digest: bytes) -> bytes:
        return hashlib.sha256(f"{seed} ".encode() + digest).digest()

    # Round by round, a line a sense; in the last, some senses by lot, and not those first that have most lines.
    ranked = [
        (rank, drawn(_digest(f"{rank} {sense_key}")), digest)
        for sense_key, digests in by_sense.items()
        for rank, digest in enumerate(sorted(digests, key=drawn))
    ]
    chosen: set[bytes] = set()
    for _, _, digest in sorted(ranked):
        if len(chosen) == most:
            break
        chosen.add(digest)
    return chosen


def _problem(line: object) -> str | None:
    """What is wrong with a line, and what is allowed."""
    messages = line.get("messages") if isinstance(line, dict) else None
    said = [message if isinstance(message, dict) else {} for message in messages] if isinstance(messages, list) else []
    if tuple(message.get("role") for message in said) != ROLES:
        return f'not a chat to learn from. Allowed: {{"messages": [...]}} with the roles {", ".join(ROLES)}'
    for message in said:
        if not isinstance(message.get("content"), str) or not message["content"].strip():
            return f"the message of {message['role']} is empty"
    if tokens_in(line) > MOST_TOKENS:
        return f"more than {MOST_TOKENS:,} tokens (about)"
    return None


def _letters(text: str) -> str:
    """A text without what two editions of a corpus may write differently: case, spaces, punctuation."""
    return "".join(filter(str.isalnum, text.casefold()))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:_DIGEST_BYTES]
