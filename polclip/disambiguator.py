"""A trained model in use: senses of words, pictures of phrases, what a sense looks like, what a picture says."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polclip.answers import (
    AmbiguousWord,
    AmbiguousWords,
    DescribedGloss,
    Description,
    RankedImage,
    RankedImages,
    RankedSense,
    Reason,
    TextSenses,
    WordSenses,
)
from polclip.corpora.mentions import LemmaFinder, Mention
from polclip.corpora.pos_tags import wordnet_pos
from polclip.corpora.texts import query_texts
from polclip.errors import UserError
from polclip.evaluation.predict import ranked
from polclip.model.blocks import unit
from polclip.opening import Opened, open_model
from polclip.pictures import PictureFile
from polclip.reading import LONGEST_READ, Pictures, PictureSet, Reader, name_of
from polclip.records import VisualInstance

LONGEST_TEXT = 100_000  # characters, as Reason.TEXT_TOO_LONG says
AT_ONCE = 256  # words read in one go

Target = str | tuple[int, int] | None


class Disambiguator:
    """A PolCLIP with all it reads with. Make one with `Disambiguator.from_pretrained(folder)`.

    What is asked is answered with a record of `polclip.answers`; where there is no answer the record says why, and only
    misuse of the class itself (lists that do not fit each other) raises an error, a UserError.
    """

    def __init__(self, opened: Opened) -> None:
        self.model, self.inventory, self.index = opened.model, opened.inventory, opened.index
        self.encoders, self.query_forms = opened.encoders, opened.encoders.query_forms
        self.reader = Reader(opened)
        self._opened = opened
        self._senses: dict[str, Tensor] = {}  # what words are compared with [d], of glosses encoded so far

    def __repr__(self) -> str:
        index = "with" if self.index is not None else "without"
        return (
            f"Disambiguator({str(self._opened.folder)!r}: {type(self.model).__name__} on {self.model.device.type}, "
            f"{len(self.inventory.synset_ids()):,} synsets, {index} an index of the glosses)"
        )

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        archives: str | Path | None = None,
        download: bool = True,
        mirror: str | None = None,
        cache: str | Path | None = None,
        inventory: str | Path | None = None,
        index: str | Path | None = None,
        device: str = "cpu",
    ) -> "Disambiguator":
        """Open a model: `model.safetensors`, `config.json`, `encoders.json`.

        Args:
            folder: a model folder, or a repository of the model hub ("user/name").
            archives: where the packages of the frozen towers and of WordNet lie; `resources/archives` of this folder
                or of the project unless given. What is missing is fetched there, its checksum compared.
            download: False lets nothing be fetched.
            mirror: folder or URL that is asked before any source.
            cache: where packages are unpacked and tables written, once; `cache` in the model's folder unless given.
            inventory: folder with `senses.parquet` and `synsets.parquet`; unless given that of the run the model lies
                in, or one built into the cache.
            index: folder that `polclip index` or `snakemake index` wrote; unless given the run's, or the cache's.
            device: cpu, cuda or auto.

        Raises UserError: no such model or repository, an archive that is missing or another one, no right to write
        the cache.
        """
        return cls(open_model(folder, archives, download, mirror, cache, inventory, index, device))

    def build_index(self, folder: str | Path | None = None) -> Path:
        """Compute the vectors of all glosses, which takes minutes, and use them from now on.

        They are kept in the cache unless `folder` is given.
        """
        self.index = self._opened.build_index(folder)
        return Path(folder or self._opened.cache / "index")

    @cached_property
    def lemmas(self) -> LemmaFinder:
        return LemmaFinder(self.inventory)

    # --- words in text

    def senses(
        self,
        text: str | Sequence[str],
        target: Target | list[Target] = None,
        pos: str | list[str | None] | None = None,
        lemma: str | list[str | None] | None = None,
    ) -> TextSenses | list[TextSenses]:
        """The senses of words in one text, or in each of several, ranked by the model.

        The text is read as it is; of one that is longer than the text tower reads, the words around each target.

        Args:
            target: a word of the text, as it stands there or as its lemma (its first mention counts), or its
                characters (start, end), two integers. None: every content word. Words may then overlap: several that
                may be one lemma ("made it") come before each of them ("made").
            pos: n, v, a or r, or a Universal or Penn tag (NOUN, VBD); None: the senses of all parts of speech compete.
            lemma: the target's, where it is known; None: all lemmas compete that the target may be a form of.

            With several texts each may be a list or tuple with one entry per text, or one value for all.

        Raises UserError for a list of another length.
        """
        if isinstance(text, str):
            return self._senses_of([(text, target, pos, lemma)])[0]
        texts = list(text)
        columns = [_column(name, value, len(texts)) for name, value in
                   (("target", target), ("pos", pos), ("lemma", lemma))]  # fmt: skip
        return self._senses_of(list(zip(texts, *columns, strict=True)))

    def ambiguous_words(self, text: str, pos: str | None = None) -> AmbiguousWords:
        """The content words of a text that have two senses or more; they may overlap as those of `senses`.

        The model is not run.
        """
        found = self._mentions(text, None, pos, None)
        if isinstance(found, Reason):
            return AmbiguousWords(text, (), found)
        counted = [(m.start, m.end, len(self._sense_keys(m))) for m in found]
        words = tuple(AmbiguousWord(text[start:end], start, end, n) for start, end, n in counted if n > 1)
        return AmbiguousWords(text, words, None if words else Reason.NOT_AMBIGUOUS)

    def _sense_keys(self, mention: Mention) -> list[str]:
        """The candidates of a word, each once."""
        return list(dict.fromkeys(key for lemma in mention.lemmas for key in self.inventory.sense_keys(*lemma)))

    @torch.inference_mode()
    def _senses_of(self, asked: list[tuple[str, Target, str | None, str | None]]) -> list[TextSenses]:
        found = [self._mentions(*one) for one in asked]
        places = [
            (at, mention) for at, answer in enumerate(found) if not isinstance(answer, Reason) for mention in answer
        ]
        words: list[list[WordSenses]] = [[] for _ in asked]
        for start in range(0, len(places), AT_ONCE):
            some = places[start : start + AT_ONCE]
            for (at, _), word in zip(some, self._words([(asked[at][0], m) for at, m in some]), strict=True):
                if word.reason is Reason.UNKNOWN_LEMMA and self._has_other_senses(word.target, *asked[at][2:]):
                    word = replace(word, reason=Reason.NO_SENSE_OF_POS)
                words[at].append(word)
        return [
            TextSenses(text, (), answer) if isinstance(answer, Reason) else TextSenses(text, tuple(of_text))
            for (text, *_), answer, of_text in zip(asked, found, words, strict=True)
        ]

    def _mentions(self, text: str, target: Target, pos: str | None, lemma: str | None) -> list[Mention] | Reason:
        """The words that are asked for, or why there are none; one without lemmas is not in WordNet."""
        if not text.strip():
            return Reason.NO_TEXT
        if len(text) > LONGEST_TEXT:
            return Reason.TEXT_TOO_LONG
        _check_target(target)
        if pos:
            pos = wordnet_pos(pos)
            if pos is None:
                return Reason.UNKNOWN_POS
        pos, lemma = pos or None, lemma or None
        target = lemma if target is None else target
        if target is None:
            return self.lemmas.content_words(text, pos) or self._no_words(text, pos)
        if isinstance(target, str):
            mention = self.lemmas.find(text, target, pos)
        else:
            start, end = target
            inside = 0 <= start < end <= len(text)
            mention = Mention(start, end, self.lemmas.lemmas_of(text[start:end], pos)) if inside else None
        if mention is None:
            return Reason.TARGET_NOT_FOUND
        if lemma is not None:
            mention = Mention(mention.start, mention.end, self.lemmas.lookup.named(lemma, pos))
        return [mention]

    def _has_other_senses(self, target: str, pos: str | None, lemma: str | None) -> bool:
        """Whether a word without senses has some of another part of speech than the one that was asked for."""
        return bool(pos and (self.lemmas.lookup.named(lemma) if lemma else self.lemmas.lemmas_of(target)))

    def _no_words(self, text: str, pos: str | None) -> Reason:
        """Why a text has no content word."""
        if pos is not None and self.lemmas.content_words(text, most=1):
            return Reason.NO_WORDS_OF_POS
        return Reason.FUNCTION_WORDS if self.lemmas.has_only_function_words(text) else Reason.NO_WORDS

    def _words(self, asked: list[tuple[str, Mention]]) -> list[WordSenses]:
        """The answers for words of texts."""
        keys = [self._sense_keys(mention) for _, mention in asked]
        vectors = self.reader.words([(text, (m.start, m.end)) if of else None for (text, m), of in
                                     zip(asked, keys, strict=True)])  # fmt: skip
        senses = {key: self.inventory.sense(key) for of_word in keys for key in of_word}
        ids = list(dict.fromkeys(sense.synset_id for sense in senses.values()))
        place = {synset_id: row for row, synset_id in enumerate(ids)}
        compared = self._sense_vectors(ids)
        answers = []
        for (text, mention), of_word, vector in zip(asked, keys, vectors, strict=True):
            start, end = mention.start, mention.end
            if vector is None:
                reason = Reason.NOT_READ if of_word else Reason.UNKNOWN_LEMMA
                answers.append(WordSenses(text[start:end], start, end, (), reason))
                continue
            scores = self.model.scale * (compared[[place[senses[key].synset_id] for key in of_word]] @ vector)
            chances = scores.softmax(-1).tolist()
            best = ranked("", range(len(of_word)), scores.cpu().numpy())
            ranking = tuple(self._ranked_sense(senses[of_word[k]], score, chances[k]) for k, score in
                            zip(best.candidates, best.scores, strict=True))  # fmt: skip
            answers.append(WordSenses(text[start:end], start, end, ranking))
        return answers

    def _ranked_sense(self, sense, score: float, probability: float) -> RankedSense:
        gloss = self.inventory.synset(sense.synset_id).gloss
        return RankedSense(sense.sense_key, sense.synset_id, sense.lemma, sense.pos, gloss, score, probability)

    def _chances(self, scores: Tensor) -> list[float]:
        return (self.model.scale * scores).softmax(-1).tolist()

    def _sense_vectors(self, synset_ids: list[str]) -> Tensor:
        """What words are compared with [n, d]: of the index, or encoded now, each gloss once."""
        if not synset_ids:
            return torch.zeros(0, self.model.embed, device=self.model.device)
        if self.index is not None and self.index.holds(synset_ids):
            return self.index.senses_of(synset_ids).to(self.model.device)
        new = [synset_id for synset_id in synset_ids if synset_id not in self._senses]
        if new:
            lineages = [self.inventory.lineage(synset_id) for synset_id in new]
            self._senses |= zip(new, self.model.senses(self.reader.glosses(new).vectors, lineages), strict=True)
        return torch.stack([self._senses[synset_id] for synset_id in synset_ids])

    # --- pictures

    @torch.inference_mode()
    def rank_images(
        self,
        word: str,
        phrase: str,
        images: Pictures | PictureSet,
        definition: str | None = None,
        strict: bool = False,
    ) -> RankedImages:
        """Rank pictures by how well they show what a word means in a phrase, as "bat" in "bat mammal".

        Args:
            phrase: the word with what makes it plain; empty: the word alone.
            images: files, open files, images of Pillow, arrays (uint8 [height, width] or [height, width, 3 or 4]), a
                folder, or what `read_pictures` gave.
            definition: of what is meant, put behind the phrase.
            strict: as in `read_pictures`.
        """
        phrase = phrase.strip() or word.strip()
        if not phrase:
            return RankedImages(phrase, (), (), Reason.NO_TEXT)
        if len(word) + len(phrase) + len(definition or "") > LONGEST_READ:
            return RankedImages("", (), (), Reason.PHRASE_TOO_LONG)
        pictures = self.read_pictures(images, strict)
        if pictures.vectors is None:
            return self._without_pictures(phrase, pictures)
        query = VisualInstance("", "en", word.strip(), phrase, [], "")
        # Without a cue some forms would be the word with a comma: its photo alone then.
        forms = self.query_forms if phrase != word.strip().replace("_", " ") else ("photo",)
        asked = unit(self.reader.phrases(query_texts(query, definition, forms)).mean(0))
        return self._ranked_images(phrase, pictures, pictures.vectors.matched @ asked, len(pictures.images))

    @torch.inference_mode()
    def imagine(self, sense_key: str, k: int = 5, pictures: Pictures | PictureSet = ()) -> RankedImages:
        """The k pictures of a set nearest to the implicit image that SIG generates of a sense: v_gen against i.

        pictures: as `rank_images` takes them; `read_pictures` reads a set once for many questions.
        """
        if not self.inventory.has(sense_key):
            return RankedImages(sense_key, (), (), Reason.UNKNOWN_SENSE)
        if not self.model.settings.sig:
            return RankedImages(sense_key, (), (), Reason.NO_SIG)
        pictures = self.read_pictures(pictures)
        if pictures.vectors is None:
            return self._without_pictures(sense_key, pictures)
        imagined = unit(self.reader.glosses([self.inventory.sense(sense_key).synset_id]).generated[0])
        return self._ranked_images(sense_key, pictures, pictures.vectors.plain @ imagined, k)

    @torch.inference_mode()
    def describe(self, image: PictureFile | np.ndarray, k: int = 5, strict: bool = False) -> Description:
        """The k glosses nearest to the implicit gloss that ISG generates of a picture: s_gen against every g.

        strict: as in `read_pictures`.
        """
        if not self.model.settings.isg:
            return Description(name_of(image, 0), (), Reason.NO_ISG)
        if self.index is None:
            return Description(name_of(image, 0), (), Reason.NO_INDEX)
        read = self.read_pictures([image], strict)
        if read.vectors is None:
            return Description(name_of(image, 0), (), read.skipped[0].reason)
        said = unit(read.vectors.generated[0]).float().cpu().numpy()
        near = []
        for synset_id, score in self.index.nearest_glosses(said, max(k, 0)):
            synset = self.inventory.synset(synset_id)
            near.append(DescribedGloss(synset_id, tuple(synset.lemmas), synset.gloss, score))
        return Description(read.images[0], tuple(near))

    def read_pictures(self, images: Pictures | PictureSet, strict: bool = False) -> PictureSet:
        """Pictures run through the image tower and the model, once for many questions.

        Args:
            images: as `rank_images` takes them; of a folder, all files with the ending of a picture.
            strict: for pictures that strangers send: refuse damaged and very large ones. Otherwise what can be decoded
                of a damaged picture is used, and a large one is scaled down; a warning says so.
        """
        return images if isinstance(images, PictureSet) else self.reader.pictures(images, strict)

    @staticmethod
    def _without_pictures(query: str, pictures: PictureSet) -> RankedImages:
        reason = Reason.NONE_READABLE if pictures.skipped else Reason.NO_PICTURES
        return RankedImages(query, (), pictures.skipped, reason)

    def _ranked_images(self, query: str, pictures: PictureSet, scores: Tensor, k: int) -> RankedImages:
        chances = self._chances(scores)
        best = ranked("", range(len(chances)), scores.cpu().numpy())
        first = islice(zip(best.candidates, best.scores, strict=True), max(k, 0))
        images = tuple(RankedImage(pictures.images[at], score, chances[at]) for at, score in first)
        return RankedImages(query, images, pictures.skipped)


def _column(name: str, value: object, count: int) -> list:
    """A value for each text."""
    if value is None or isinstance(value, str) or _is_span(value) or not isinstance(value, Iterable):
        return [value] * count
    values = list(value)
    if len(values) != count:
        raise UserError(
            f"{name}: {len(values)} values for {count} texts. Give one value per text, or one value for all texts."
        )
    return values


def _is_span(value: object) -> bool:
    """Whether a value is the characters (start, end) of a target."""
    return isinstance(value, Sequence) and len(value) == 2 and all(isinstance(one, Integral) for one in value)


def _check_target(target: object) -> None:
    if not (target is None or isinstance(target, str) or _is_span(target)):
        raise UserError(
            f"target: {target!r} is not allowed; allowed: a word, its characters (start, end), or None. "
            'For example: target="bat" or target=(4, 7).'
        )
