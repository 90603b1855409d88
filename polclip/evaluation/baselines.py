"""Systems that learn nothing: random, the first sense, Lesk. Each ranks every candidate of every instance."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

from polclip.corpora.texts import Definitions
from polclip.evaluation.lesk import lesk
from polclip.files import write_json_lines
from polclip.inventory import Inventory
from polclip.records import INSTANCES, Prediction, TextualInstance, VisualInstance, read_records
from polclip.selection import fraction


def random_order(instances: Iterable[TextualInstance | VisualInstance], seed: int = 0) -> Iterator[Prediction]:
    """Every candidate with a score in [0, 1) that depends on seed, instance and candidate alone."""
    for instance in instances:
        scores = {candidate: fraction(f"{instance.instance_id}:{candidate}", seed) for candidate in instance.candidates}
        ranking = sorted(scores, key=scores.__getitem__, reverse=True)
        yield Prediction(instance.instance_id, ranking, [scores[candidate] for candidate in ranking])


def first_sense(instances: Iterable[TextualInstance]) -> Iterator[Prediction]:
    """The senses in WordNet's order, scored 1, 1/2, 1/3 ... The order comes from counts in SemCor.

    Instances whose candidates are in no order of frequency (XL-WSD but for English with a sense mapping) are left
    unanswered.
    """
    for instance in instances:
        ranking = list(instance.candidates) if instance.by_frequency else []
        yield Prediction(instance.instance_id, ranking, [1 / rank for rank in range(1, 1 + len(ranking))])


def predict_baseline(
    baseline: str,
    inventory: Inventory,
    *,
    tasks: Sequence[str],
    instances: Sequence[str | Path],
    predictions: Sequence[str | Path],
    definitions: Definitions = MappingProxyType({}),
    forms: Sequence[str] = ("photo",),
    seed: int = 0,
    text_features: Sequence[str | Path] | None = None,
    picture_features: Sequence[str | Path] | None = None,
    classes: str | Path | None = None,
    context_words: int = 0,
) -> None:
    """Write a baseline's predictions for several benchmarks, a JSON Lines file each.

    Args:
        baseline: random, first_sense, lesk or zero_shot.
        tasks: textual or visual, by benchmark; first_sense and lesk know only the first.
        instances, predictions: Parquet files read and JSON Lines files written, in the same order.
        definitions, forms, text_features, picture_features, classes, context_words: read by zero_shot alone.
    """
    if baseline == "zero_shot":  # the others need no torch, whose import takes seconds
        from polclip.encoders.feature_store import FeatureStore
        from polclip.evaluation.zero_shot import ZeroShot, zero_shot

        stores = FeatureStore(text_features), FeatureStore(picture_features)
        system = ZeroShot(inventory, *stores, classes, context_words)
    for task, source, target in zip(tasks, instances, predictions, strict=True):
        if baseline == "zero_shot":
            ranking = zero_shot(task, system, source, definitions, forms)
        else:
            records = read_records(source, INSTANCES[task])
            ranking = {
                "random": lambda records: random_order(records, seed),
                "first_sense": first_sense,
                "lesk": lambda records: lesk(records, inventory),
            }[baseline](records)
        write_json_lines(target, map(vars, ranking))
