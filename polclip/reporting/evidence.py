"""What lies under the numbers: the examples and the failures, joined by id from the files of a run."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from polclip.records import TextualInstance, VisualInstance, read_records
from polclip.reporting import gallery
from polclip.reporting.comparison import as_json, compare
from polclip.reporting.failures import textual_failures, visual_failures
from polclip.reporting.inputs import ReportInputs, ReportSettings, run_of
from polclip.reporting.outcomes import Learned, Meaning, first_answers, meanings, reasons, wanted_pictures
from polclip.reporting.tables import is_visual

MOST_CONFUSED = 8
STYLE_SAMPLES = 6


def examples_and_failures(settings: ReportSettings, inputs: ReportInputs, main: str) -> dict:
    """The examples (from the lowest seed of the main experiment), the failures (over all its seeds), and the answers of
    all experiments (from the lowest seed of each) side by side.
    """
    found: dict[str, dict[str, dict[int, str | Path]]] = {}
    for path in inputs.predictions:
        experiment, seed = run_of(path)
        found.setdefault(Path(path).stem, {}).setdefault(experiment, {})[seed] = path
    # The order of the benchmarks is the config's; seeds ascend; the main experiment comes first.
    of_main = {name: found[name][main] for name in inputs.instances if main in found.get(name, ())}
    runs = {name: [seeds[seed] for seed in sorted(seeds)] for name, seeds in of_main.items()}
    answers = {name: [first_answers(path) for path in paths] for name, paths in runs.items()}
    visual = [name for name in runs if is_visual(inputs.instances[name])]
    kinds = {name: VisualInstance if name in visual else TextualInstance for name in runs}
    learned = Learned.read(inputs.sentences_trained_on, inputs.pictures_trained_on)
    compared = []
    for name in runs:
        of_all = sorted(found[name].items(), key=lambda one: one[0] != main)
        said = {
            experiment: answers[name][0] if experiment == main else first_answers(seeds[min(seeds)])
            for experiment, seeds in of_all
        }
        if len(said) > 1:
            compared.append(compare(name, inputs.instances[name], kinds[name], said, settings.seed))

    ids: set[str] = set()
    for name in visual:
        for instance in read_records(inputs.instances[name], VisualInstance):
            ids |= {instance.gold, *instance.candidates}
    pictures = wanted_pictures(inputs.pictures, ids)
    failures = [
        visual_failures(name, inputs.instances[name], answers[name], learned, pictures)
        if name in visual
        else textual_failures(name, inputs.instances[name], answers[name], learned)
        for name in runs
    ]

    def why(instance: TextualInstance | VisualInstance, answer: str | None) -> list[str]:
        return reasons(instance, answer, learned, pictures)

    picked = {
        name: gallery.chosen(
            inputs.instances[name], kinds[name], answers[name][0], settings.examples, settings.seed, why
        )
        for name in runs
    }
    confused = {f.benchmark: f.top_confusions(MOST_CONFUSED) for f in failures}
    keys = {key for f in failures if f.task == "textual" for pair in confused[f.benchmark] for key in pair[:2]}
    for name, chosen in picked.items():
        for instance, _ in chosen:
            keys |= {instance.sense_key or ""} if name in visual else {*instance.candidates, *instance.gold}
    for one in compared:
        keys |= one.ids()
    known = meanings(inputs.senses, inputs.synsets, keys)

    root = Path(settings.picture_root)
    visual_examples, textual_examples = [], []
    for name, chosen in picked.items():
        ranked = gallery.rankings(runs[name][0], {instance.instance_id for instance, _ in chosen})
        for instance, wrong in chosen:
            order, values = ranked[instance.instance_id]
            if name in visual:
                meaning = known.get(instance.sense_key)
                visual_examples.append(
                    gallery.visual_example(name, instance, wrong, order, pictures, meaning, root, settings.pixels)
                )
            else:
                textual_examples.append(gallery.textual_example(name, instance, wrong, order, values, known))
    return {
        "visual_examples": visual_examples,
        "textual_examples": textual_examples,
        "failures": failures,
        "times": {
            task: sum((f.reasons + f.against for f in failures if f.task == task), Counter())
            for task in ("textual", "visual")
        },
        "pairs": [pair for one in compared for pair in one.pairs(main)],
        "answers": as_json(compared, known, pictures) if compared else None,
        "confused": {
            name: [(label(a, known), label(b, known), n) for a, b, n in rows] for name, rows in confused.items()
        },
        "styles": gallery.styles(inputs.pictures, root, settings.pixels, STYLE_SAMPLES, settings.seed),
        "example_seed": min((min(seeds) for seeds in of_main.values()), default=None),
    }


def label(key: str, known: Mapping[str, Meaning]) -> Meaning:
    """A sense with its gloss, or the bare name of a picture's concept."""
    return known.get(key, Meaning("", key, ""))
