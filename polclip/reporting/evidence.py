"""What lies under the numbers: the examples and the failures, joined by id from the files of a run."""

from collections.abc import Mapping
from pathlib import Path

from polclip.records import TextualInstance, VisualInstance, read_records
from polclip.reporting import gallery
from polclip.reporting.failures import textual_failures, visual_failures
from polclip.reporting.inputs import ReportInputs, ReportSettings, run_of
from polclip.reporting.outcomes import Meaning, first_answers, meanings, wanted_pictures
from polclip.reporting.tables import is_visual

MOST_CONFUSED = 8
STYLE_SAMPLES = 6


def examples_and_failures(settings: ReportSettings, inputs: ReportInputs, main: str) -> dict:
    """The examples (from the lowest seed of the main experiment) and the failures (over all its seeds)."""
    found: dict[str, dict[int, str | Path]] = {}
    for path in inputs.predictions:
        experiment, seed = run_of(path)
        if experiment == main and Path(path).stem in inputs.instances:
            found.setdefault(Path(path).stem, {})[seed] = path
    # The order of the benchmarks is the config's; seeds ascend.
    runs = {name: [found[name][seed] for seed in sorted(found[name])] for name in inputs.instances if name in found}
    answers = {name: [first_answers(path) for path in paths] for name, paths in runs.items()}
    visual = [name for name in runs if is_visual(inputs.instances[name])]

    ids: set[str] = set()
    for name in visual:
        for instance in read_records(inputs.instances[name], VisualInstance):
            ids |= {instance.gold, *instance.candidates}
    pictures = wanted_pictures(inputs.pictures, ids)
    failures = [
        visual_failures(name, inputs.instances[name], answers[name], pictures)
        if name in visual
        else textual_failures(name, inputs.instances[name], answers[name])
        for name in runs
    ]
    picked = {
        name: gallery.chosen(
            inputs.instances[name],
            VisualInstance if name in visual else TextualInstance,
            answers[name][0],
            settings.examples,
            settings.seed,
        )
        for name in runs
    }
    confused = {f.benchmark: f.top_confusions(MOST_CONFUSED) for f in failures}
    keys = {key for f in failures if f.task == "textual" for pair in confused[f.benchmark] for key in pair[:2]}
    for name, chosen in picked.items():
        for instance, _ in chosen:
            keys |= {instance.sense_key or ""} if name in visual else {*instance.candidates, *instance.gold}
    known = meanings(inputs.senses, inputs.synsets, keys)

    root = Path(settings.picture_root)
    visual_examples, textual_examples = [], []
    for name, chosen in picked.items():
        ranked = gallery.rankings(runs[name][0], {instance.instance_id for instance, _ in chosen})
        for instance, right in chosen:
            order, values = ranked[instance.instance_id]
            if name in visual:
                meaning = known.get(instance.sense_key)
                visual_examples.append(
                    gallery.visual_example(name, instance, right, order, pictures, meaning, root, settings.pixels)
                )
            else:
                textual_examples.append(gallery.textual_example(name, instance, right, order, values, known))
    return {
        "visual_examples": visual_examples,
        "textual_examples": textual_examples,
        "failures": failures,
        "confused": {
            name: [(label(a, known), label(b, known), n) for a, b, n in rows] for name, rows in confused.items()
        },
        "styles": gallery.styles(inputs.pictures, root, settings.pixels, STYLE_SAMPLES, settings.seed),
        "example_seed": min((min(seeds) for seeds in found.values()), default=None),
    }


def label(key: str, known: Mapping[str, Meaning]) -> Meaning:
    """A sense with its gloss, or the bare name of a picture's concept."""
    return known.get(key, Meaning("", key, ""))
