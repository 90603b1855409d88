"""The parts of a textual benchmark that are scored on their own.

By part of speech; by set, where the ids carry the names of several; by what the training corpora hold; by what
WordNet's first sense gets right; by whether there is a choice at all; and the instances whose labels were
corrected later.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from polclip.babelnet import is_babelnet_id
from polclip.errors import UserError
from polclip.files import open_parquet
from polclip.records import TextualInstance

# A benchmark and the one that corrects labels of some of its instances: Maru et al. 2022 keep the ids of ALL.
CORRECTED = {"ALL": "ALLamended"}
_LEARNED = ["lemma", "pos", "gold"]
_ID_IN_SET = re.compile(r"([^.]+)\.d\d+\.s\d+\.t\d+")  # senseval2.d000.s000.t000


@dataclass(frozen=True)
class TrainingSenses:
    """What a model could have seen in its textual training corpora.

    A lemma is seen when it is a target there with the same part of speech, a sense when its key is a gold key
    there. Those that are not are the "zero-shot" words of Blevins and Zettlemoyer 2020; instances none of whose
    gold keys was seen in SemCor are the list ALL-no-semcor of Maru et al. 2022.
    """

    lemmas: frozenset[str]  # bat#n
    sense_keys: frozenset[str]

    def lemma_seen(self, lemma: str, pos: str) -> bool:
        return f"{lemma}#{pos}" in self.lemmas

    def sense_seen(self, gold: Iterable[str]) -> bool:
        """Whether one of the gold keys is a gold key of the training corpora."""
        return not self.sense_keys.isdisjoint(gold)


def read_training_senses(paths: Iterable[str | Path]) -> TrainingSenses | None:
    """The lemmas and senses of Parquet files of textual instances, three columns streamed; None of no file.

    Raises UserError for a file of something else.
    """
    lemmas: set[str] = set()
    sense_keys: set[str] = set()
    paths = list(paths)
    for path in paths:
        try:
            with open_parquet(path) as file:
                for name in _LEARNED:  # those that are not there would be passed over
                    file.schema_arrow.field(name)
                for batch in file.iter_batches(columns=_LEARNED):
                    named = pc.binary_join_element_wise(batch["lemma"], batch["pos"], "#")
                    lemmas.update(named.unique().to_pylist())
                    sense_keys.update(batch["gold"].flatten().unique().to_pylist())
        except (OSError, KeyError, pa.ArrowException) as error:
            raise UserError(
                f"{path} is no Parquet file of textual instances with lemma, pos and gold ({error}). Give one "
                "that the workflow writes, such as results/paper/corpora/semcor/train.parquet."
            ) from error
    return TrainingSenses(frozenset(lemmas), frozenset(sense_keys)) if paths else None


def read_instance_ids(path: str | Path) -> set[str]:
    """The ids of a Parquet file of instances."""
    return set(pq.read_table(path, columns=["instance_id"])["instance_id"].to_pylist())


def ids_by_set(instance_ids: Iterable[str]) -> dict[str, list[str]]:
    """Ids by the set that they name in front (senseval2.d000.s000.t000); none unless they name several."""
    by_set: dict[str, list[str]] = {}
    for instance_id in instance_ids:
        if in_set := _ID_IN_SET.fullmatch(instance_id):
            by_set.setdefault(in_set[1], []).append(instance_id)
    return by_set if len(by_set) > 1 else {}


def textual_subsets(
    instances: Sequence[TextualInstance],
    training: TrainingSenses | None = None,
    corrected: Collection[str] = (),
) -> Iterator[tuple[str, np.ndarray]]:
    """The names of the subsets with a mask over the instances, (n,) bool, empty ones left out.

    In this order: n v a r; the sets; seen_lemma, unseen_lemma, seen_sense, unseen_sense (see TrainingSenses;
    none without training corpora, or of BabelNet's senses); first_sense (the first sense is a gold key), other_sense
    (both without instances whose candidates are in no order of frequency); one_candidate, several_candidates (an
    instance without candidates is in neither); amended, the instances whose ids are in `corrected`, with the labels
    they have here.
    """
    ids = [instance.instance_id for instance in instances]
    parts: dict[str, list[bool]] = {pos: [instance.pos == pos for instance in instances] for pos in "nvar"}
    for name, members in ids_by_set(ids).items():
        inside = set(members)
        parts[name] = [instance_id in inside for instance_id in ids]
    # BabelNet's senses are of another inventory than the training corpora's.
    foreign = any(is_babelnet_id(key) for instance in instances for key in instance.gold)
    if training is not None and not foreign:
        lemmas = [training.lemma_seen(instance.lemma, instance.pos) for instance in instances]
        senses = [training.sense_seen(instance.gold) for instance in instances]
        parts |= {"seen_lemma": lemmas, "unseen_lemma": [not seen for seen in lemmas]}
        parts |= {"seen_sense": senses, "unseen_sense": [not seen for seen in senses]}
    first = [instance.first_sense in instance.gold for instance in instances]
    parts["first_sense"] = first
    parts["other_sense"] = [asked.by_frequency and not right for asked, right in zip(instances, first, strict=True)]
    parts["one_candidate"] = [len(instance.candidates) == 1 for instance in instances]
    parts["several_candidates"] = [len(instance.candidates) > 1 for instance in instances]
    parts["amended"] = [instance_id in corrected for instance_id in ids]
    for name, members in parts.items():
        if any(members):
            yield name, np.array(members)


def side_by_side(benchmarks: Sequence[str]) -> list[str]:
    """Names, or entries such as corpus/split, in their order, but each corrected benchmark right after its old one."""
    ordered = list(benchmarks)
    by_name = {name.rpartition("/")[2]: name for name in ordered}
    for old, corrected in CORRECTED.items():
        if old in by_name and corrected in by_name:
            ordered.remove(by_name[corrected])
            ordered.insert(1 + ordered.index(by_name[old]), by_name[corrected])
    return ordered
