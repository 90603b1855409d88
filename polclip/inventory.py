"""The sense inventory: WordNet 3.0 from Princeton's database files, as two tables.

The file formats are those of the manual pages wndb(5WN) and senseidx(5WN). NLTK's reader is not used here: it
wants a folder on its own search path with the exception lists, which some archives of WordNet leave out.
"""

import re
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from polclip.babelnet import is_babelnet_id, mapped_senses
from polclip.corpora.key_files import without_marker
from polclip.corpora.pos_tags import ALLOWED as POS_TAGS
from polclip.corpora.pos_tags import wordnet_pos
from polclip.corpora.spellings import plain
from polclip.corpora.words import base_forms
from polclip.downloads.unpacking import open_members
from polclip.errors import UserError
from polclip.files import write_parquet
from polclip.records import SCHEMAS, Sense, Synset

if TYPE_CHECKING:
    from polclip.corpora.lemma_lookup import LemmaLookup

_Read = TypeVar("_Read")

WORDNET_3_0 = (117_659, 206_941)  # synsets, senses
POS_NAMES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
LINEAGE = 3  # hypernyms: more told no more in a trial
_SS_TYPES = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "s"}
_HALVES = ("data.noun1", "data.noun2")
_FILES = {"index.sense", *(f"data.{pos}" for pos in POS_NAMES.values())}
_EXCEPTIONS = {pos: f"{name}.exc" for pos, name in POS_NAMES.items()}
_PRINCETONS_ARCHIVE = "WNdb-3.0.tar.gz"  # packages carry it as it is, the exception lists beside it
# The lexicographer files by number, as in the manual page lexnames(5WN): Princeton's archive lacks the file of names.
_LEXNAMES = """
adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition
noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object noun.person
noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation noun.shape noun.state
noun.substance noun.time verb.body verb.change verb.cognition verb.communication verb.competition verb.consumption
verb.contact verb.creation verb.emotion verb.motion verb.perception verb.possession verb.social verb.stative
verb.weather adj.ppl
"""
LEXNAMES = {f"{number:02d}": name for number, name in enumerate(_LEXNAMES.split())}
_QUOTED = re.compile(r'"([^"]*)"')
_CUT_OFF = re.compile(r'[;:]\s*"[^"]*$')  # an example whose closing quote is missing


def build_inventory(
    archive: str | Path,
    senses_path: str | Path,
    synsets_path: str | Path,
    counts: tuple[int, int] = WORDNET_3_0,
    mapping: str | Path | None = None,
) -> None:
    """Read WordNet's database files and write the tables of senses and of synsets (Parquet).

    archive: a .tar.gz or .zip that holds Princeton's `dict` files in any one folder, or Princeton's own archive
    (`WNdb-3.0.tar.gz`); or such a folder itself. The noun file may be cut in two (`data.noun1`, `data.noun2`).
    The exception lists (`noun.exc`, ...) may be missing: irregular forms are then those of `corpora.words`.
    counts: synsets and senses there must be.
    mapping: a table of BabelNet ids (see `polclip.babelnet`), which become senses of their own in front of the others.
    Raises UserError when a file is missing or broken (with its line), or the counts differ.
    """
    files = _dict_files(Path(archive))

    def read(name: str, of_line: Callable[[str], _Read | None]) -> list[_Read]:
        return list(_each_line(files[name], f"{archive}:{name}", of_line))

    synsets = [s for pos in POS_NAMES.values() for s in read(f"data.{pos}", _synset)]
    senses = read("index.sense", _sense)
    senses.sort(key=lambda sense: (sense.lemma, sense.pos, sense.sense_number))
    if (len(synsets), len(senses)) != counts:
        raise UserError(
            f"{archive} holds {len(synsets):,} synsets and {len(senses):,} senses; WordNet 3.0 has "
            f"{counts[0]:,} and {counts[1]:,}. Give an archive of WordNet 3.0, no other version."
        )
    known = {synset.synset_id for synset in synsets}
    keys = {sense.sense_key for sense in senses}
    if len(known) < len(synsets) or len(keys) < len(senses):
        raise UserError(
            f"{archive}: a synset or a sense key stands there twice. Give an archive of WordNet 3.0 as it is."
        )
    for sense in senses:
        if sense.synset_id not in known:
            raise UserError(f"{archive}: sense {sense.sense_key} has no synset {sense.synset_id} there.")
    forms: dict[tuple[str, str], list[str]] = {}
    for pos, name in _EXCEPTIONS.items():
        for form, *lemmas in read(name, str.split) if name in files else ():
            for lemma in lemmas:
                forms.setdefault((lemma, pos), []).append(form)
    senses = [replace(sense, forms=" ".join(forms.get((sense.lemma, sense.pos), ()))) for sense in senses]
    if mapping:
        senses = [*mapped_senses(mapping, {sense.sense_key: sense.synset_id for sense in senses}, known), *senses]
    write_parquet(senses_path, map(vars, senses), SCHEMAS[Sense])
    write_parquet(synsets_path, map(vars, synsets), SCHEMAS[Synset])


def _dict_files(archive: Path) -> dict[str, str]:
    """The texts of Princeton's files by name, the two halves of data.noun put together."""
    if not archive.exists():
        raise UserError(f"{archive} is not there. Download WordNet 3.0 first: snakemake --cores 1 datasets")
    try:
        texts = {name: content.decode("utf-8") for name, content in _members(archive)}
    except (UserError, OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{archive} cannot be read as an archive of WordNet ({error.__cause__ or error}). "
            "Delete it and run the same command again to download it anew."
        ) from error
    if texts.keys() >= set(_HALVES):
        texts["data.noun"] = "\n".join(texts.pop(half) for half in _HALVES)
    missing = _FILES - texts.keys()
    if missing:
        raise UserError(
            f"{archive} lacks WordNet's {', '.join(sorted(missing))}. Allowed: a .tar.gz, a .zip or a folder "
            f"with Princeton's `dict` files of WordNet 3.0, or with its {_PRINCETONS_ARCHIVE}."
        )
    return texts


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    names = sorted(_FILES.union(_HALVES, _EXCEPTIONS.values()))
    if archive.is_dir():
        folders = sorted(path.parent for path in archive.rglob("index.sense"))
        for path in folders[0].iterdir() if folders else []:
            if path.name in names:
                yield path.name, path.read_bytes()
        return
    wanted = [pattern for name in (*names, _PRINCETONS_ARCHIVE) for pattern in (name, f"*/{name}")]
    limits = {"max_bytes": 10**9, "max_files": 10**5, "max_total_bytes": 10**9}
    for path, stream in open_members(archive, wanted, **limits, missing_ok=True):
        name = PurePosixPath(path).name
        if name != _PRINCETONS_ARCHIVE:
            yield name, stream.read()
            continue
        with tempfile.NamedTemporaryFile() as inner:
            inner.write(stream.read())
            inner.flush()
            dict_files = [pattern for file in names for pattern in (file, f"*/{file}")]
            for inner_path, content in open_members(inner.name, dict_files, **limits, missing_ok=True):
                yield PurePosixPath(inner_path).name, content.read()


def _each_line(text: str, source: str, of_line: Callable[[str], _Read | None]) -> Iterator[_Read]:
    """What each line gives, lines that give nothing apart; UserError with the line for another format."""
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            found = of_line(line) if line.strip() else None
        except (ValueError, IndexError, KeyError) as error:
            raise UserError(
                f"{source}:{number}: not in Princeton's format ({error!r}). "
                "Delete the archive and run the same command again to download it anew."
            ) from error
        if found is not None:
            yield found


def _synset(line: str) -> Synset | None:
    if not line[:1].isdigit():  # the licence stands in front, indented
        return None
    fields, _, gloss = line.partition("|")
    offset, lexfile, ss_type, width, *rest = fields.split()
    words, pointers = rest[: 2 * int(width, 16) : 2], rest[2 * int(width, 16) :]
    hypernyms = [
        f"{pointers[at + 1]}-{pointers[at + 2]}"
        for at in range(1, 1 + 4 * int(pointers[0]), 4)
        if pointers[at] in ("@", "@i")
    ]
    definition, examples = split_gloss(gloss)
    lemmas = [without_marker(word) for word in words]
    return Synset(f"{offset}-{ss_type}", LEXNAMES[lexfile], definition, examples, lemmas, hypernyms)


def split_gloss(gloss: str) -> tuple[str, list[str]]:
    """A gloss as WordNet prints it -> (the definition alone, the example sentences).

    Examples stand in double quotes after the definition; what is quoted inside a parenthesis belongs to the
    definition. Of an unbalanced pair of quotes, only what is quoted counts as an example.
    """
    gloss = _CUT_OFF.sub("", gloss) if gloss.count('"') == 1 else gloss
    examples, definition = [], None
    for quoted in _QUOTED.finditer(gloss):
        before = gloss[: quoted.start()]
        if definition is None:
            if before.count("(") > before.count(")"):
                continue
            definition = before
        if any(character.isalpha() for character in quoted[1]):
            examples.append(quoted[1].strip())
    if definition is None:
        definition = gloss
    return definition.strip().rstrip(";:, ") or gloss.strip(), examples


def _sense(line: str) -> Sense:
    key, offset, number, tag_count = line.split()
    lemma, _, lex_sense = key.partition("%")
    ss_type = _SS_TYPES[lex_sense[0]]
    pos = "a" if ss_type == "s" else ss_type
    return Sense(key, lemma, pos, ss_type, int(number), int(tag_count), f"{offset}-{ss_type}")


def _columns(path: str | Path) -> dict[str, list]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path} is not a table of the inventory ({error}). Delete it and run the same command again."
        ) from error
    return {name: table[name].to_pylist() for name in table.column_names}


@dataclass(frozen=True)
class Inventory:
    """WordNet's senses and synsets, looked up by lemma, sense key or synset id.

    Kept as columns (lists of equal length); a record is made when it is asked for.
    """

    sense_columns: dict[str, list]  # sorted by lemma, part of speech, sense number
    synset_columns: dict[str, list]

    @classmethod
    def read(cls, senses_path: str | Path, synsets_path: str | Path) -> "Inventory":
        """Read the two tables that `build_inventory` wrote; UserError where one cannot be read."""
        return cls(_columns(senses_path), _columns(synsets_path))

    @cached_property
    def _sense_rows(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self.sense_columns["sense_key"])}

    @cached_property
    def _synset_rows(self) -> dict[str, int]:
        return {synset_id: row for row, synset_id in enumerate(self.synset_columns["synset_id"])}

    @cached_property
    def _lemma_rows(self) -> dict[tuple[str, str], list[int]]:
        rows: dict[tuple[str, str], list[int]] = {}
        lemmas, numbers = self.sense_columns["lemma"], self.sense_columns["sense_number"]
        for row, lemma_pos in enumerate(zip(lemmas, self.sense_columns["pos"], strict=True)):
            if lemma_pos[0]:  # BabelNet ids have none
                rows.setdefault(lemma_pos, []).append(row)
        for same in rows.values():
            same.sort(key=numbers.__getitem__)
        return rows

    @cached_property
    def _irregular(self) -> dict[tuple[str, str], frozenset[str]]:
        """The lemmas of each irregular form and part of speech."""
        lemmas: dict[tuple[str, str], set[str]] = {}
        columns = self.sense_columns
        rows = zip(columns["lemma"], columns["pos"], columns.get("forms", ()))  # noqa: B905 - none in older tables
        for lemma, pos, forms in rows:
            for form in forms.split():
                lemmas.setdefault((form, pos), set()).add(lemma)
        return {form: frozenset(of_form) for form, of_form in lemmas.items()}

    def base_forms(self, word: str, pos: str) -> frozenset[str]:
        """Every base form that a word could be an inflection of: by rule, and by WordNet's exception lists.

        As `corpora.words.base_forms`, the rule's. Lower case; not all of them are lemmas.
        """
        bases, irregular = base_forms(word, pos), self.irregular_lemmas(word, pos)
        return bases | irregular if irregular else bases

    def irregular_lemmas(self, form: str, pos: str) -> frozenset[str]:
        """The lemmas that WordNet's exception lists give for a form, words joined by "_"."""
        return self._irregular.get((plain(form).lower(), pos), frozenset())

    @cached_property
    def lookup(self) -> "LemmaLookup":
        """The look-up of written words."""
        from polclip.corpora.lemma_lookup import LemmaLookup  # which imports this module

        return LemmaLookup(self)

    def _sense_at(self, row: int) -> Sense:
        return Sense(**{name: column[row] for name, column in self.sense_columns.items()})

    def _synset_at(self, row: int) -> Synset:
        return Synset(**{name: column[row] for name, column in self.synset_columns.items()})

    def senses(self, lemma: str, pos: str) -> list[Sense]:
        """The senses of a lemma as n, v, a or r, first sense first; none for a lemma WordNet does not have.

        Satellite adjectives count as "a" ("s" may be asked for too, and the tags of `pos_tags`). Case and spaces do not
        matter.
        """
        return [self._sense_at(row) for row in self._rows_of(lemma, pos)]

    def sense_keys(self, lemma: str, pos: str) -> list[str]:
        """The sense keys of `senses(lemma, pos)`, first sense first."""
        keys = self.sense_columns["sense_key"]
        return [keys[row] for row in self._rows_of(lemma, pos)]

    def _rows_of(self, lemma: str, pos: str) -> list[int]:
        if pos not in POS_NAMES:
            if (letter := wordnet_pos(pos)) is None:
                raise UserError(f"Unknown part of speech {pos!r}. Allowed: {POS_TAGS}.")
            pos = letter
        return self._lemma_rows.get((lemma.lower().replace(" ", "_"), pos), [])

    def lemmas(self) -> Iterable[tuple[str, str]]:
        """Every lemma with its part of speech, in the order of the senses."""
        return self._lemma_rows.keys()

    def has(self, sense_key: str) -> bool:
        """Whether there is such a sense; a key may carry its syntactic marker, as in `sense`."""
        return without_marker(sense_key) in self._sense_rows

    def sense(self, sense_key: str) -> Sense:
        """The sense of a key, which may carry a syntactic marker: galore(ip)%5:00:00:many:00.

        An unknown key is a UserError that lists the keys of its lemma.
        """
        row = self._sense_rows.get(without_marker(sense_key))
        if row is None:
            raise UserError(f"Unknown sense key {sense_key!r} in WordNet 3.0. {self._hint(sense_key)}")
        return self._sense_at(row)

    def _hint(self, sense_key: str) -> str:
        lemma = sense_key.partition("%")[0].lower()
        keys = [key for pos in POS_NAMES for key in self.sense_keys(lemma, pos)]
        if keys:
            more = f" and {len(keys) - 12} more" if len(keys) > 12 else ""
            return f"Allowed for {lemma}: {', '.join(keys[:12])}{more}."
        lemmas = self.sense_columns["lemma"]  # sorted, so that the neighbours are those spelt alike
        at = bisect_left(lemmas, lemma)
        near = sorted(set(lemmas[max(0, at - 2) : at + 3]) - {""})
        return f"No lemma {lemma!r}; spelt alike: {', '.join(near)}. A key looks like bat%1:05:00::"

    def with_synset(self, candidates: Iterable[str]) -> list[str]:
        """Those of an instance's candidate senses whose gloss can be read: all but BabelNet ids that no mapping has.

        Raises UserError for a BabelNet id where the inventory was built without a mapping.
        """
        candidates = list(candidates)
        foreign = next(filter(is_babelnet_id, candidates), None)
        if foreign is None:
            return candidates
        if not self._has_babelnet_ids:
            raise UserError(
                f"{foreign} is a sense of BabelNet, and WordNet's glosses are read: name a table of BabelNet ids and "
                "WordNet senses in corpora.xl_wsd.sense_mapping. Without one, random alone can answer."
            )
        return [sense for sense in candidates if not is_babelnet_id(sense) or self.has(sense)]

    @cached_property
    def _has_babelnet_ids(self) -> bool:
        return any(map(is_babelnet_id, self.sense_columns["sense_key"]))

    def synset(self, synset_id: str) -> Synset:
        """The synset of an id such as 02139199-n (offset in WordNet 3.0, then n v a s r)."""
        row = self._synset_rows.get(synset_id)
        if row is None:
            raise UserError(
                f"Unknown synset {synset_id!r} in WordNet 3.0. A synset id is eight digits (the offset), "
                "a hyphen and one of n v a s r, such as 02139199-n."
            )
        return self._synset_at(row)

    def lineage(self, synset_id: str) -> list[str]:
        """A synset and the groups that it shares with others: its hypernym, that one's, and so on, at most LINEAGE of
        them (of several, the first), then its lexicographer file, such as noun.animal."""
        lineage = [synset_id]
        while len(lineage) <= LINEAGE and (hypernyms := self.synset(lineage[-1]).hypernyms):
            lineage.append(hypernyms[0])
        return [*lineage, self.synset(synset_id).lexname]

    def synset_of(self, sense_key: str) -> Synset:
        """The synset that a sense belongs to."""
        return self.synset(self.sense(sense_key).synset_id)

    def synset_ids(self) -> list[str]:
        """Every synset id, in the order of WordNet's files: nouns, verbs, adjectives, adverbs."""
        return self.synset_columns["synset_id"]
