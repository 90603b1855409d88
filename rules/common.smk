# Settings and manifest, checked before any rule is read; the names of files; what a run consists of.

import os
import re
import shlex
import sys
from pathlib import Path

# The package is this folder's: it need not be installed, and scripts in environments of their own find it too.
sys.path.insert(0, workflow.basedir)
os.environ.update(
    PYTHONPATH=os.pathsep.join(filter(None, [workflow.basedir, os.environ.get("PYTHONPATH")]))
)

# Snakemake puts this path into the shell commands of its jobs without quotes: blanks, brackets and apostrophes would
# end it. A path without any stays as it is.
sys.executable = shlex.quote(sys.executable)

from snakemake.exceptions import WorkflowError

from polclip import run_layout, settings
from polclip.downloads.manifest import read_manifest
from polclip.errors import UserError
from polclip.evaluation.subsets import side_by_side
from polclip.installation import check_folder
from polclip.provenance import script_fingerprint
from polclip.yaml_files import read_yaml

try:
    check_folder(Path(workflow.basedir))
    # Snakemake takes the last of two equal keys, and `no` as a truth value, in silence. It has read the presets already.
    for path in [Path(workflow.basedir, "config.yaml"), *map(Path, workflow.overwrite_configfiles)]:
        if path.is_file():  # not the pipe of a shell's <(...), which was read to its end
            read_yaml(path)
except UserError as error:
    raise WorkflowError(str(error)) from None


configfile: workflow.source_path("../config.yaml")


try:
    MANIFEST = read_manifest(Path(workflow.basedir, "rules", "datasets.yaml"))
    config.update(settings.check(config, MANIFEST))
except UserError as error:
    raise WorkflowError(str(error)) from None


# A bucket. botocore has a quota for repeating, and gets nothing back of what a question took that ends in "no such file",
# the answer of each file that is yet to be made: a busy server would end the run. --storage-s3-retries is limit enough.
if workflow.storage_settings.default_storage_provider == "s3":
    from botocore.retries.quota import RetryQuota

    RetryQuota.acquire = lambda quota, amount: True


# Used with --software-deployment-method apptainer alone.
container: config["machine"]["container"]


# Here, before all rules: behind them it would wipe out their own constraints where files are in a bucket.
wildcard_constraints:
    corpus=r"[A-Za-z0-9_-]+",
    split=r"[A-Za-z0-9_-]+",
    experiment=r"[A-Za-z0-9_-]+",
    seed=r"\d+",


STYLES = list(config["pictures"]["styles"])
EXPERIMENTS = settings.all_experiments(config)
# Those with a model: trained here, or read from a folder.
TRAINED = [name for name, own in EXPERIMENTS.items() if "baseline" not in own]
CHECKPOINTS = [name for name in TRAINED if "checkpoint" in EXPERIMENTS[name]]
# Baselines that rank senses and know nothing of pictures answer the textual benchmarks alone.
TEXTUAL_BASELINES = [
    name for name, own in EXPERIMENTS.items() if own.get("baseline") in settings.TEXTUAL_BASELINES
]
OTHER_BASELINES = [name for name in EXPERIMENTS if name not in TRAINED + TEXTUAL_BASELINES]
GPUS = 0 if config["machine"]["device"] == "cpu" else 1

# The archives of corpora that are read, not rendered.
CORPUS_DATASETS = {
    "semcor": ["semcor_tag_files"],
    "semcor_unified": ["wsd_training_corpora"],
    "unified_wsd": ["wsd_framework"],
    "hard_benchmark": ["wsd_hard_benchmark"],
    "xl_wsd": ["xl_wsd"],
    "vwsd": ["vwsd_test", "vwsd_test_images"],
    "vwsd_train": ["vwsd_train"],
    "image_semcor": ["image_semcor_metadata", "image_semcor_images"],
    "image_vwsd_kb": ["image_vwsdkb_metadata", "image_vwsdkb_images"],
    "babelpic": ["babelpic"],
}
# Corpora whose senses come with pictures.
IMAGE_SENSES = ["image_semcor", "image_vwsd_kb"]
VWSD_LANGUAGES = ["en", "it", "fa"]


def result(path):
    """A path under the results of this run; wildcards stay as they are."""
    return f"results/{config['name']}/{path}"


def archive(dataset):
    return f"resources/archives/{MANIFEST[dataset].file}"


def corpus_archives(corpus):
    return [archive(name) for name in CORPUS_DATASETS[corpus]]


def corpus_archive(corpus):
    """The archive of a corpus that has just one."""
    (path,) = corpus_archives(corpus)
    return path


def code_of(script, files=()):
    """For params: an edit of the script or of what it imports of the package reruns its rule; a comment does not."""
    return script_fingerprint(Path(workflow.basedir, "workflow_scripts", f"{script}.py"), files)


def package_files(folder):
    """The files of a folder of the package, for `code_of`."""
    package = Path(workflow.basedir, "polclip")
    return [str(path.relative_to(package)) for path in package.glob(f"{folder}/*")]


def one_of(names):
    """A wildcard constraint; nothing matches where there are no names."""
    return "|".join(map(re.escape, names)) or "(?!)"


def threads_of(step):
    return config["machine"]["threads"][step]


def growing(amount):
    """For resources: so much at first, twice and three times as much when a job is tried again."""
    return lambda wildcards, attempt: attempt * amount


def pick(block, *keys):
    """The keys of a block that an output depends on, for params: those of the others do not rerun it."""
    return {key: config[block][key] for key in keys}


def entries(task, *sides):
    """Old and corrected labels of the same instances stand next to each other, here and in every table."""
    return [entry for side in sides for entry in side_by_side(config["corpora"][task][side])]


def instance_files(task, *sides):
    return [result(f"corpora/{entry}.parquet") for entry in entries(task, *sides)]


def phrase_files():
    """Words made plain by a cue, beside the training pictures of the same senses."""
    return [
        result(f"corpora/{entry.split('/')[0]}/phrases.parquet")
        for entry in entries("visual", "train")
    ]


def defined_files(*sides):
    """The instances that definitions are written for: no training set, whose definitions are the answers."""
    return [file for task in config["definitions"]["of"] for file in instance_files(task, *sides)]


def definition_files(*sides):
    """The definitions of each of `defined_files`."""
    return [
        result(f"definitions/{'.'.join(entry.split('/'))}.jsonl")
        for task in config["definitions"]["of"]
        for entry in entries(task, *sides)
    ]


def task_of(wildcards):
    """What kind of instances a corpus holds."""
    entry = f"{wildcards.corpus}/{wildcards.split}"
    return "visual" if entry in entries("visual", "dev", "test") else "textual"


# What an answer depends on, beside its question.
ASKED_KEYS = ("model", "base_url", "system", "prompt", "parameters")


def definition_costs():
    return [file.removesuffix(".jsonl") + ".cost.json" for file in definition_files("dev", "test")]


def used(*names):
    """Which of these corpora this run asks for."""
    asked = {
        entry.split("/")[0]
        for task in ("textual", "visual")
        for entry in entries(task, "train", "dev", "test")
    }
    return [name for name in names if name in asked]


# Folders of one's own, by name; no two corpora write the same files.
OWN = config["corpora"]["own"]
if taken := sorted(set(OWN) & {*CORPUS_DATASETS, *STYLES, "wordnet_examples", "pictures"}):
    raise WorkflowError(
        f"corpora.own: {', '.join(taken)} is the name of another corpus; choose another name."
    )


def own_texts(corpus):
    """JSON Lines, or XML with its gold."""
    texts = f"{OWN[corpus]}/texts"
    if Path(f"{texts}.data.xml").exists():
        return [f"{texts}.data.xml", f"{texts}.gold.key.txt"]
    return [f"{texts}.jsonl"]


def own_tables(corpus):
    """Its pictures, and phrases where it has some."""
    phrases = f"{OWN[corpus]}/phrases.tsv"
    return [f"{OWN[corpus]}/pictures.tsv"] + ([phrases] if Path(phrases).exists() else [])


# Sets of pictures: rendered styles, and those that come with a corpus.
SHOWN = entries("visual", "train", "dev", "test")
OWN_PICTURES = [name for name in OWN if {f"{name}/pictures", f"{name}/queries"} & set(SHOWN)]
PICTURE_CORPORA = used("vwsd", "vwsd_train", *IMAGE_SENSES, "babelpic") + OWN_PICTURES
PICTURE_SETS = STYLES + PICTURE_CORPORA


def picture_table(style):
    rendered = style in STYLES
    pattern = run_layout.RENDERED_PICTURES if rendered else run_layout.CORPUS_PICTURES
    return result(pattern.format(style=style))


def picture_shards(style):
    """In how many jobs a set is embedded: a rendered style, of hundreds of pictures, in one."""
    return 1 if style in STYLES else config["encoder"]["picture_shards"]


INVENTORY = {
    "senses": result("inventory/senses.parquet"),
    "synsets": result("inventory/synsets.parquet"),
}
TEXT_FEATURES = expand(
    result("embeddings/texts/shard-{shard}"),
    shard=range(config["encoder"]["text_shards"]),
)
PICTURE_FEATURES = [
    result(run_layout.PICTURE_FEATURES.format(style=style, shard=shard))
    for style in PICTURE_SETS
    for shard in range(picture_shards(style))
]

PAIR = config["encoder"]["kind"] == "pair"
# A CLIP's weights are a data set of the manifest, or what open_clip takes itself: a file, a tag.
CLIP_WEIGHTS = config["encoder"]["clip_weights"]
CLIP_ARCHIVE = archive(CLIP_WEIGHTS) if CLIP_WEIGHTS in MANIFEST else []
TEXT_WEIGHTS = archive(config["encoder"]["text_dataset"]) if PAIR else CLIP_ARCHIVE
IMAGE_WEIGHTS = archive(config["encoder"]["image_dataset"]) if PAIR else CLIP_ARCHIVE
# Those of EncoderSettings.
ENCODER_KEYS = ("kind", "clip_architecture", "clip_weights", "trainable_image_blocks", "grid")


def described(dataset):
    """An archive as `encoders.json` names it."""
    entry = MANIFEST[dataset]
    return {"dataset": dataset, "file": entry.file, "sha256": entry.sha256}


# What is written beside every model: with it the model is used without the settings of its run.
ENCODERS = {
    **pick("encoder", *ENCODER_KEYS, "text_layers", "text_precision", "context_words"),
    "query_forms": config["definitions"]["query_forms"],
    "text": described(config["encoder"]["text_dataset"]) if PAIR else None,
    "image": described(config["encoder"]["image_dataset"]) if PAIR else None,
    "inventory": described(config["inventory"]["dataset"]) | pick("inventory", "synsets", "senses"),
}
# A pair's image encoder comes with classes that are synsets.
CLASSES = archive(config["encoder"]["classes_dataset"]) if PAIR else []
FEATURES = {
    "text_features": TEXT_FEATURES,
    "picture_features": PICTURE_FEATURES,
    "classes": CLASSES,
}

# Whether the run asks the towers: most baselines do not.
ENCODES = any(
    own.get("baseline", "zero_shot") == "zero_shot" for own in config["experiments"].values()
)
ENCODER_DATASETS = (
    ["text_dataset", "image_dataset", "classes_dataset"]
    if PAIR
    else ["clip_weights"] if CLIP_ARCHIVE else []
)
DATASETS = list(
    dict.fromkeys(
        [config["inventory"]["dataset"]]
        + [config["pictures"]["styles"][style]["dataset"] for style in STYLES]
        + [name for corpus in used(*CORPUS_DATASETS) for name in CORPUS_DATASETS[corpus]]
        + [config["encoder"][key] for key in ENCODER_DATASETS if ENCODES]
    )
)

# What an experiment asks for beyond the texts that all read.
WITH_CAPTIONS = any(
    settings.experiment_block(config, name, "model")["w2i_text"] == "caption"
    for name in (TRAINED if not PAIR else [])
)


def definitions_of(*sides):
    """The definitions that an experiment reads, for `unpack`: none where it is to do without."""

    def of_experiment(wildcards):
        asks = EXPERIMENTS[wildcards.experiment].get("definitions", True)
        return {
            "defined": defined_files(*sides) if asks else [],
            "definitions": definition_files(*sides) if asks else [],
        }

    return of_experiment


# The experiment that the others are compared with.
MAIN = "main" if "main" in EXPERIMENTS else next(iter(TRAINED or EXPERIMENTS))
# Corpora that say how much of them was left out.
COUNTED_CORPORA = used(*CORPUS_DATASETS, "wordnet_examples")

TEXTUAL_BENCHMARKS = list(map(settings.benchmark_of, entries("textual", "test")))
VISUAL_BENCHMARKS = list(map(settings.benchmark_of, entries("visual", "test")))
BENCHMARKS = TEXTUAL_BENCHMARKS + VISUAL_BENCHMARKS
TEST_FILES = instance_files("textual", "test") + instance_files("visual", "test")
TASKS = {name: "textual" for name in TEXTUAL_BENCHMARKS} | {
    name: "visual" for name in VISUAL_BENCHMARKS
}
# The official score of VWSD is the mean over its languages: scored together, under a name of their own.
OF_VWSD = {f"vwsd_{language}": language for language in VWSD_LANGUAGES}
LANGUAGES = [name for name in VISUAL_BENCHMARKS if name in OF_VWSD]
TOGETHER = {"vwsd": LANGUAGES} if len(LANGUAGES) > 1 else {}


def of_benchmarks(pattern, benchmarks):
    """A file a benchmark, with the wildcards experiment and seed left open."""
    return [result(pattern.replace("{benchmark}", benchmark)) for benchmark in benchmarks]


def predictions_of(benchmarks):
    return of_benchmarks("predictions/{experiment}/seed-{seed}/{benchmark}.jsonl", benchmarks)


def scores_of(benchmarks):
    return of_benchmarks("scores/{experiment}/seed-{seed}/{benchmark}.json", benchmarks)


def language_of(benchmark):
    return OF_VWSD.get(benchmark, "en")


def official_of(benchmarks):
    """The form that the official scorers read."""
    return [
        result(
            "predictions/{experiment}/seed-{seed}/"
            + (
                f"{name}.key.txt"
                if TASKS[name] == "textual"
                else f"prediction.{name}.{language_of(name)}.txt"
            )
        )
        for name in benchmarks
    ]


def benchmarks_of(experiment):
    return TEXTUAL_BENCHMARKS if experiment in TEXTUAL_BASELINES else BENCHMARKS


def scored_of(experiment):
    return TEXTUAL_BENCHMARKS if experiment in TEXTUAL_BASELINES else BENCHMARKS + list(TOGETHER)


def runs(experiments):
    """Each experiment with each of its seeds."""
    return [
        {"experiment": name, "seed": seed}
        for name in experiments
        for seed in settings.experiment_seeds(config, name)
    ]


def trained_files(name):
    return [
        result("models/{experiment}/seed-{seed}/".format(**run) + name)
        for run in runs(config["experiments"])
        if run["experiment"] in TRAINED
    ]


def index_folders():
    return [
        result("index/{experiment}/seed-{seed}".format(**run))
        for run in runs(config["experiments"])
        if run["experiment"] in TRAINED
    ]


def prediction_files():
    return [
        file.format(**run)
        for run in runs(config["experiments"])
        for file in predictions_of(benchmarks_of(run["experiment"]))
    ]


def score_files(experiments=config["experiments"]):
    return [
        file.format(**run)
        for run in runs(experiments)
        for file in scores_of(scored_of(run["experiment"]))
    ]


def read_by_baseline(wildcards):
    """Only zero_shot asks the frozen towers, and with definitions."""
    baseline = EXPERIMENTS[wildcards.experiment]["baseline"]
    return FEATURES | definitions_of("test")(wildcards) if baseline == "zero_shot" else {}


def start_of(wildcards):
    """The model that a training starts from, where it names an experiment."""
    other = settings.experiment_block(config, wildcards.experiment, "training")["start_from"]
    return result(f"models/{other}/seed-{wildcards.seed}/model.safetensors") if other else []


def block_of(block):
    """The block of the experiment that a job is about, for params."""
    return lambda wildcards: settings.experiment_block(config, wildcards.experiment, block)
