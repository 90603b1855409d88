"""What the report is given: its settings and the files of one run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polclip.errors import UserError


@dataclass(frozen=True)
class ReportSettings:
    """What the page is about and how much it shows.

    examples: at most so many right and so many wrong ones a benchmark; pixels: side of a thumbnail; seed: of
    the hash that chooses the examples; picture_root: the folder that the paths of pictures start from.
    """

    name: str
    main: str = "main"
    baselines: Sequence[str] = ("random", "first_sense", "lesk", "zero_shot")
    examples: int = 6
    pixels: int = 112
    seed: int = 0
    picture_root: str = "."


@dataclass(frozen=True)
class ReportInputs:
    """Files of one run. What is None or empty leaves its section out.

    metrics and predictions: `…/{experiment}/seed-{seed}/metrics.jsonl` and `…/{benchmark}.jsonl`, read off
    the path; instances: benchmark to its Parquet file; pictures: one table a style;
    definition_costs: `…/{corpus}.{split}.cost.json`; definitions: a Parquet file of instances to its definitions;
    sentences_trained_on, pictures_trained_on: the Parquet files of the training corpora.
    """

    scores: str | Path
    significance: str | Path | None = None
    corpora: str | Path | None = None
    costs: str | Path | None = None
    provenance: str | Path | None = None
    metrics: Sequence[str | Path] = ()
    predictions: Sequence[str | Path] = ()
    instances: Mapping[str, str | Path] = field(default_factory=dict)
    pictures: Sequence[str | Path] = ()
    senses: str | Path | None = None
    synsets: str | Path | None = None
    definition_costs: Sequence[str | Path] = ()
    definitions: Mapping[str | Path, str | Path] = field(default_factory=dict)
    sentences_trained_on: Sequence[str | Path] = ()
    pictures_trained_on: Sequence[str | Path] = ()

    def files(self) -> list[Path]:
        single = (
            self.scores,
            self.significance,
            self.corpora,
            self.costs,
            self.provenance,
            self.senses,
            self.synsets,
        )
        several = (*self.metrics, *self.predictions, *self.instances.values(), *self.pictures, *self.definition_costs)
        several += (*self.definitions, *self.definitions.values())
        several += (*self.sentences_trained_on, *self.pictures_trained_on)
        return [Path(path) for path in (*single, *several) if path is not None]


def run_of(path: str | Path) -> tuple[str, int]:
    """Experiment and seed of a file in `{experiment}/seed-{seed}/`."""
    path = Path(path)
    seed = path.parent.name.removeprefix("seed-")
    if not path.parent.name.startswith("seed-") or not seed.isdigit():
        raise UserError(f"{path}: expected a file in a folder {{experiment}}/seed-{{number}}/.")
    return path.parent.parent.name, int(seed)
