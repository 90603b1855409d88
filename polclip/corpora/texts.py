"""Every text the model reads, each distinct one once, under an id made from its content."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from polclip.downloads.unpacking import read_member
from polclip.files import read_json_lines, write_parquet
from polclip.inventory import Inventory
from polclip.records import Phrase, Synset, TextualInstance, VisualInstance, read_records
from polclip.workplaces import scratch_folder

SCHEMA = pa.schema([("text_id", pa.string()), ("text", pa.string())])
PARTS = 256  # of the texts, by the first two digits of their ids: one is in memory, the others wait on the disk


def text_id(text: str) -> str:
    """The id of a text: the first 128 bits of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def lemmas_of(synset: Synset) -> str:
    return ", ".join(lemma.replace("_", " ") for lemma in synset.lemmas)


def gloss_text(synset: Synset) -> str:
    """How a sense is put to the text encoder: its lemmas and its gloss, without example sentences."""
    return f"{lemmas_of(synset)}: {synset.gloss}"


def photo_text(phrase: str, definition: str | None = None) -> str:
    """The text of a visual query (MODEL.md step 10): a caption, followed by the definition where there is one."""
    caption = f'A photo of "{phrase}"'
    return f"{caption}, {definition}" if definition else caption


def context_text(instance: TextualInstance, definition: str | None = None) -> tuple[str, tuple[int, int]]:
    """The text of a textual instance, and the characters of its target in it (start, end), end exclusive.

    With a definition: `(bat: a winged animal) The bat flew off .` It stands in front, since a target's states see
    only what comes before them in the text tower of a CLIP; with the lemma, since a sentence has other words too;
    lemma and definition are put as `gloss_text` puts them.
    """
    before = f"({instance.lemma.replace('_', ' ')}: {definition}) " if definition else ""
    start, end = instance.target_span
    return before + instance.text, (len(before) + start, len(before) + end)


def in_windows(
    instances: Iterable[TextualInstance], words: int
) -> Iterator[tuple[TextualInstance, str, tuple[int, int]]]:
    """Each instance with the text that it is read in, and the characters of its target there (start, end).

    The text is its sentence, with the sentences before and behind it in its document as long as all have at most
    `words` words together. Every sentence stands in one window; one that is longer, or belongs to no document, stands
    alone, and with `words` 0 each does. A sentence without an instance is not known here and left out.
    """
    for document, of_document in groupby(instances, key=lambda instance: instance.document):
        window: list[list[TextualInstance]] = []
        length = 0
        for _, group in groupby(of_document, key=lambda instance: instance.sentence_id):
            sentence = list(group)
            more = len(sentence[0].tokens)
            if window and (not document or length + more > words):
                yield from _of_window(window)
                window, length = [], 0
            window.append(sentence)
            length += more
        yield from _of_window(window)


def _of_window(sentences: list[list[TextualInstance]]) -> Iterator[tuple[TextualInstance, str, tuple[int, int]]]:
    text = " ".join(sentence[0].text for sentence in sentences)
    before = 0
    for sentence in sentences:
        for instance in sentence:
            start, end = instance.target_span
            yield instance, text, (before + start, before + end)
        before += len(sentence[0].text) + 1


def caption_text(word: str, synset: Synset) -> str:
    """What the public code compares with pictures in training: a caption of the word with the gloss of one sense."""
    return photo_text(word.replace("_", " "), f"{synset.gloss}.")


def query_texts(query: VisualInstance, definition: str | None, forms: Sequence[str]) -> list[str]:
    """The texts of a visual query, of which the model takes the mean: `mouse rodent` in the forms asked for.

    photo: the paper's text, with the definition where there is one. listed: the word, then the rest of the phrase,
    wherever the word is in it: `mouse, rodent`, and `goal, football` of `football goal`. reversed: the rest, then the
    word: `rodent mouse`. Where the word does not occur in the phrase (an inflected form), the rest is the whole phrase;
    where the phrase is the word alone, both forms are the word. A pair of towers does better with all three: its text
    tower was trained on sentences, not captions.
    """
    word = query.word.replace("_", " ")
    start, end = query.word_span or (0, 0)
    cue = f"{query.phrase[:start].strip()} {query.phrase[end:].strip()}".strip()
    by_form = {
        "photo": photo_text(query.phrase, definition),
        "listed": f"{word}, {cue}" if cue else word,
        "reversed": f"{cue} {word}" if cue else word,
    }
    return [by_form[form] for form in forms]


def captions_of(synset: Synset, inventory: Inventory, phrases: Iterable[str]) -> list[str]:
    """What a picture of the synset may be called: gloss, lemmas with the hypernym's, phrases, photo forms."""
    hypernym = f", {lemmas_of(inventory.synset(synset.hypernyms[0]))}" if synset.hypernyms else ""
    texts = [gloss_text(synset), synset.gloss, lemmas_of(synset) + hypernym]
    for phrase in phrases:
        texts += [phrase, photo_text(phrase)]
    return texts


# A file of instances and the JSON Lines file of their definitions. Ids such as d000.s000.t000 stand in several corpora.
Definitions = Mapping[str | Path, str | Path]


def read_definitions(definitions: Definitions, instances: str | Path) -> dict[str, str | None]:
    """Instance id -> definition, of one file of instances; nothing where the file has no definitions.

    A definition is None where there is none or where it was flagged as unusable.
    """
    path = {str(asked): path for asked, path in definitions.items()}.get(str(instances))
    return {row["instance_id"]: row["definition"] for row in read_json_lines(path)} if path else {}


def class_synsets(archive: str | Path) -> list[str]:
    """WordNet 3.0 synset ids of ImageNet's 1,000 classes, in the classifier's order."""
    ids = json.loads(read_member(archive, "*/imagenet1k_to_21k.json"))
    return [f"{ids[str(k)][1:]}-n" for k in range(len(ids))]


def _texts(
    inventory: Inventory,
    textual: Iterable[str | Path],
    visual: Iterable[str | Path],
    phrases: Iterable[str | Path],
    definitions: Definitions,
    forms: Sequence[str],
    captions: Sequence[str | Path],
    classes: Iterable[str],
    context_words: int,
) -> Iterator[str]:
    senses: set[str] = set()
    synsets: set[str] = set(classes)
    for path in textual:
        known = read_definitions(definitions, path)
        for instance, text, _ in in_windows(read_records(path, TextualInstance), context_words):
            senses.update(inventory.with_synset(instance.candidates))
            yield text
            if definition := known.get(instance.instance_id):
                yield context_text(instance, definition)[0]
    for path in visual:
        known = read_definitions(definitions, path)
        for query in read_records(path, VisualInstance):
            for definition in (None, known.get(query.instance_id)):
                yield from query_texts(query, definition, forms)
    for path in phrases:
        for phrase in read_records(path, Phrase):
            synset = inventory.synset(phrase.synset_id)
            yield from captions_of(synset, inventory, [phrase.phrase])
            if captions:
                yield caption_text(phrase.word, synset)
    for path in captions:
        for instance in read_records(path, TextualInstance):
            for key in inventory.with_synset(instance.candidates):
                yield caption_text(instance.lemma, inventory.synset_of(key))
    synsets.update(inventory.sense(key).synset_id for key in senses)
    for synset_id in synsets:
        yield gloss_text(inventory.synset(synset_id))


def _distinct(texts: Iterable[str]) -> Iterator[dict[str, str]]:
    """Each distinct text once, sorted by id."""
    with scratch_folder() as folder:
        paths = [Path(folder, f"{part:02x}") for part in range(PARTS)]
        with ExitStack() as stack:
            files = [stack.enter_context(open(path, "w", encoding="utf-8")) for path in paths]
            for text, _ in groupby(texts):  # the words of a sentence follow each other
                key = text_id(text)
                files[int(key[:2], 16)].write(json.dumps([key, text]) + "\n")
        for path in paths:
            with open(path, encoding="utf-8") as file:
                for key, text in sorted(dict(map(json.loads, file)).items()):
                    yield {"text_id": key, "text": text}


def collect(
    output: str | Path,
    inventory: Inventory,
    textual: Iterable[str | Path],
    visual: Iterable[str | Path],
    phrases: Iterable[str | Path],
    definitions: Definitions,
    forms: Sequence[str] = ("photo",),
    captions: Sequence[str | Path] = (),
    classes: Iterable[str] = (),
    context_words: int = 0,
) -> int:
    """Write the distinct texts of the corpora to a Parquet file (text_id, text), sorted by id; return their number.

    Args:
        textual, visual, phrases: Parquet files of instances and of training phrases.
        definitions: of the files of instances that have some. The texts without them are wanted all the same: where
            a definition would push the target out of the text tower, where towers are aligned, for an ablation.
        forms: of the visual instances' texts.
        captions: Parquet files of textual instances, of whose candidate senses captions are wanted; then of the
            phrases too.
        classes: synset ids of the image classifier's classes.
        context_words: of the windows that textual instances are read in, see `in_windows`.
    """
    texts = _texts(inventory, textual, visual, phrases, definitions, forms, captions, classes, context_words)
    write_parquet(output, _distinct(texts), SCHEMA)
    return pq.read_metadata(output).num_rows
