"""The rules of the corpora with BabelNet's senses, run for real on tiny archives."""

import io
import tarfile

import pytest
from tiny_project import CONCEPTS, TINY, make_project, read_manifest, snakemake, write_wordnet, write_yaml, write_zip

from polclip.files import read_json, read_json_lines
from polclip.records import Picture, TextualInstance, read_records

FIRST, SECOND = CONCEPTS[:2]  # two senses of one word
IDS = {concept.sense_key: f"bn:{at:08d}n" for at, concept in enumerate(CONCEPTS)}
XML = f"""<corpus lang="en"><text id="d0"><sentence id="d0.s0">
<wf lemma="the" pos="DET">The</wf> <wf lemma="cricket" pos="NOUN">{SECOND.gloss}</wf>
<instance id="d0.s0.t0" lemma="{FIRST.word}" pos="NOUN">{FIRST.word}</instance>
</sentence></text></corpus>
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("babelnet")
    mirror, project = folder / "mirror", folder / "project"
    mirror.mkdir()
    project = make_project(project, mirror)
    file = {name: mirror / entry["file"] for name, entry in read_manifest(project).items()}
    write_wordnet(file["wordnet"])
    write_zip(
        file["xl_wsd"],
        {
            "xl-wsd/evaluation_datasets/test-en/test-en.data.xml": XML,
            "xl-wsd/evaluation_datasets/test-en/test-en.gold.key.txt": f"d0.s0.t0 {IDS[SECOND.sense_key]}\n",
            "xl-wsd/inventories/inventory.en.txt": "\t".join(
                [f"{FIRST.word}#NOUN", "bn:77777777n", IDS[SECOND.sense_key], IDS[FIRST.sense_key]]
            ),
        },
    )
    with tarfile.open(file["babelpic"], "w:gz") as archive:
        member = tarfile.TarInfo(f"babelpic-gold/images/{IDS[FIRST.sense_key]}_0.jpg")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"bat"))
    manifest = read_manifest(project)
    manifest["wordnet"] |= {"size": file["wordnet"].stat().st_size}
    del manifest["wordnet"]["sha256"]
    write_yaml(project / "rules" / "datasets.yaml", manifest)
    (project / "mapping.tsv").write_text("".join(f"{IDS[key]}\t{key}\n" for key in IDS))
    preset = TINY | {
        "archives_mirror": str(mirror),
        "accept_licences": ["xl_wsd", "babelpic"],
        "corpora": TINY["corpora"]
        | {
            "textual": TINY["corpora"]["textual"] | {"test": ["xl_wsd/xl_en"]},
            "visual": TINY["corpora"]["visual"] | {"train": ["babelpic/pictures"], "test": []},
            "xl_wsd": {"sense_mapping": "mapping.tsv"},
        },
        "experiments": TINY["experiments"] | {"lesk": {"baseline": "lesk", "seeds": [1]}},
    }
    write_yaml(project / "tiny.yaml", preset)
    return project


def test_baselines_answer_in_babelnet_ids_and_pictures_are_tied_to_wordnet(project):
    results = project / "results" / "tiny"
    asked = [f"scores/{experiment}/seed-1/xl_en.json" for experiment in ("first_sense", "lesk")]
    asked.append("corpora/babelpic/pictures.parquet")
    done = snakemake(project, *(f"results/tiny/{name}" for name in asked))
    assert done.returncode == 0, done.stdout + done.stderr

    (instance,) = read_records(results / "corpora" / "xl_wsd" / "xl_en.parquet", TextualInstance)
    # WordNet's order, by the mapping; what it does not have comes last.
    assert instance.candidates == [IDS[FIRST.sense_key], IDS[SECOND.sense_key], "bn:77777777n"]
    counts = read_json(results / "corpora" / "xl_wsd" / "counts.json")["xl_en"]
    assert {name: n for name, n in counts.items() if n} == {"sentences": 1, "instances": 1}
    ranked = {}
    for experiment in ("first_sense", "lesk"):
        folder = results / "predictions" / experiment / "seed-1"
        (prediction,) = read_json_lines(folder / "xl_en.jsonl")
        ranked[experiment] = prediction["candidates"]
        assert (folder / "xl_en.key.txt").read_text() == f"d0.s0.t0 {ranked[experiment][0]}\n"
    assert ranked["first_sense"] == instance.candidates
    assert ranked["lesk"] == [IDS[SECOND.sense_key], IDS[FIRST.sense_key]]  # by WordNet's glosses
    scores = {row["metric"]: row["value"] for row in read_json(results / asked[1])["rows"] if row["subset"] == "n"}
    assert scores["f1"] == 100
    (picture,) = read_records(results / asked[2], Picture)
    assert picture.synset_id == f"{FIRST.offset}-n" and (project / picture.path).read_bytes() == b"bat"
