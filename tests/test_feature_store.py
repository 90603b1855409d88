import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from PIL import Image

from polclip.encoders.embed import embed_pictures, embed_texts
from polclip.encoders.feature_store import FeatureStore, shard_of, shard_writer
from polclip.encoders.interface import EncodedImages, EncodedTexts
from polclip.errors import UserError
from polclip.pictures import SCALED_DOWN, TRUNCATED, read_picture
from polclip.records import Picture, write_records


def stored(folder, items, classes=False, described=None):
    with shard_writer(folder, described) as writer:
        for item, length in items.items():
            states = np.full((length, 3), len(item) + length, dtype=np.float32) + np.arange(length)[:, None]
            spans = None if classes else [np.arange(2 * length).reshape(length, 2)]
            chances = np.full((1, 2), length / 10) if classes else None
            writer.add([item], [states], states[:1] / 2, spans=spans, class_probabilities=chances)


# --- the store


def test_several_shards_read_as_one_in_any_order(tmp_path):
    stored(tmp_path / "a", {"x": 2, "yy": 4})
    stored(tmp_path / "b", {"zzz": 1})
    stored(tmp_path / "empty", {})
    store = FeatureStore([tmp_path / "empty", tmp_path / "a", tmp_path / "b"])
    assert not store.has_classes and not store.holds_tokens and "yy" in store and "q" not in store
    np.testing.assert_array_equal(store.states("yy")[:, 0], [6, 7, 8, 9])
    np.testing.assert_array_equal(store.spans("yy"), np.arange(8).reshape(4, 2))
    np.testing.assert_array_equal(store.pooled(["zzz", "x", "yy", "x"])[:, 0], [2, 1.5, 3, 1.5])
    assert store.pooled(["x"]).dtype == np.float32 and store.pooled([]).shape == (0, 3)
    states, real = store.padded(["zzz", "yy"])
    np.testing.assert_array_equal(states[:, :, 0], [[4, 0, 0, 0], [6, 7, 8, 9]])
    assert real.tolist() == [[True, False, False, False], [True] * 4]


def shorter(name):
    def spoil(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) - 2])

    return spoil


def fewer_states(folder):
    np.save(folder / "states.npy", np.load(folder / "states.npy")[:-1])


def other_rows(folder):
    index = pd.read_parquet(folder / "index.parquet")
    index.assign(start=index["start"] + 1).to_parquet(folder / "index.parquet")


@pytest.mark.parametrize(
    "spoil",
    [
        *(shorter("states.npy"), shorter("pooled.npy"), shorter("spans.npy"), shorter("index.parquet")),
        lambda folder: (folder / "states.npy").write_bytes(b""),
        lambda folder: (folder / "states.npy").write_bytes(b"\x93NUMPY"),
        lambda folder: (folder / "states.npy").unlink(),
        lambda folder: (folder / "pooled.npy").unlink(),
        lambda folder: (folder / "index.parquet").unlink(),
        lambda folder: (folder / "index.parquet").write_bytes(b"PAR1"),
        lambda folder: pd.DataFrame({"id": ["x"]}).to_parquet(folder / "index.parquet"),
        *(fewer_states, other_rows),
        lambda folder: (folder / "encoder.json").write_text('{"kind": '),
        lambda folder: (folder / "encoder.json").write_text("null"),
        lambda folder: (folder / "encoder.json").write_bytes(b"\xff"),
    ],
)
def test_a_broken_shard_ends_in_a_sentence_with_its_folder(tmp_path, spoil):
    stored(tmp_path / "a", {"x": 2, "yy": 4})
    FeatureStore([tmp_path / "a"])
    spoil(tmp_path / "a")
    with pytest.raises(UserError) as caught:
        FeatureStore([tmp_path / "a"])
    assert str(caught.value).startswith(f"{tmp_path / 'a'} does not hold features that can be read (")
    assert str(caught.value).endswith("). Delete the folder and run the same command again.")


def test_token_ids_are_kept_whole_and_padded_as_whole_numbers(tmp_path):
    ids = {"short": [49406, 7, 49407], "long": [49406, 2048, 2049, 40001, 49407]}  # 16-bit floats would round them
    with shard_writer(tmp_path / "a") as writer:
        writer.add(list(ids), [np.array(of_text, dtype=np.int32) for of_text in ids.values()], np.zeros((2, 4)))
    stored(tmp_path / "empty", {})
    store = FeatureStore([tmp_path / "empty", tmp_path / "a"])
    assert store.holds_tokens and store.states("long").tolist() == ids["long"]
    states, real = store.padded(["short", "long"])
    assert states.dtype == np.int64 and states.tolist() == [[*ids["short"], 0, 0], ids["long"]]
    assert real.tolist() == [[True] * 3 + [False] * 2, [True] * 5]


def test_a_shard_grows_batch_by_batch_into_arrays_that_numpy_reads(tmp_path):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, 1200)
    states = [rng.normal(size=(length, 2)).astype(np.float16) for length in lengths]
    with shard_writer(tmp_path / "a") as writer:
        for start in range(0, 1200, 7):
            part = range(start, min(start + 7, 1200))
            writer.add([f"i{k}" for k in part], [states[k] for k in part], np.stack([states[k][0] for k in part]))
    whole = np.load(tmp_path / "a" / "states.npy", mmap_mode="r")
    np.testing.assert_array_equal(whole, np.concatenate(states))
    store = FeatureStore([tmp_path / "a"])
    for k in (0, 6, 7, 599, 1199):
        np.testing.assert_array_equal(store.states(f"i{k}"), states[k])
        np.testing.assert_array_equal(store.pooled([f"i{k}"])[0], states[k][0])


def test_a_store_tells_what_its_shards_were_made_with(tmp_path):
    stored(tmp_path / "a", {"x": 2}, described={"kind": "clip", "grid": None})
    stored(tmp_path / "b", {"y": 2})
    assert FeatureStore([tmp_path / "a", tmp_path / "b"]).described == [{"kind": "clip", "grid": None}, {}]


def test_class_probabilities_are_found_by_id(tmp_path):
    stored(tmp_path / "a", {"x": 2, "yy": 4}, classes=True)
    store = FeatureStore([tmp_path / "a"])
    assert store.has_classes
    np.testing.assert_allclose(store.class_probabilities(["yy", "x"])[:, 0], [0.4, 0.2], atol=1e-3)


def test_an_item_that_was_never_embedded_is_named(tmp_path):
    stored(tmp_path / "a", {"x": 2})
    store = FeatureStore([tmp_path / "a"])
    for ask in (store.states, store.spans, lambda item: store.pooled([item]), lambda item: store.padded([item])):
        with pytest.raises(UserError, match=r"'lost'.*Delete the embeddings"):
            ask("lost")


@pytest.mark.parametrize("name", ["_GrowingArray.append", "pq.ParquetWriter.write_table"])
def test_a_shard_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch, name):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"polclip.encoders.feature_store.{name}", full)
    with pytest.raises(UserError, match="No space left"):
        stored(tmp_path / "a", {"x": 2})
    assert not list(tmp_path.iterdir())


def test_a_shard_whose_encoder_fails_midway_leaves_what_was_there_before(tmp_path):
    stored(tmp_path / "a", {"x": 2})
    with pytest.raises(RuntimeError, match="out of memory"), shard_writer(tmp_path / "a") as writer:
        writer.add(["y"], [np.ones((2, 3))], np.ones((1, 3)))
        raise RuntimeError("out of memory")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert list(FeatureStore([tmp_path / "a"]).place) == ["x"]


def test_shards_share_the_ids_evenly_and_by_the_id_alone():
    ids = [f"id {k}" for k in range(2000)]
    counts = np.bincount([shard_of(item, 4) for item in ids], minlength=4)
    assert counts.min() > 400
    assert [shard_of(item, 1) for item in ids[:5]] == [0] * 5
    assert [shard_of(f"id {k}", 8) for k in range(4)] == [7, 7, 5, 2]  # the last bits of 8 bytes of SHA-256


# --- texts


class LetterEncoder:
    """A token a letter, its code as its state, spaces left out; pads nothing and notes the tokens of its batches."""

    def __init__(self):
        self.batches = []

    def tokens(self, texts):
        places = [[k for k, c in enumerate(text) if c != " "] for text in texts]
        return [
            (np.array([ord(text[k]) for k in of]), np.array([[k, k + 1] for k in of]))
            for text, of in zip(texts, places, strict=True)
        ]

    def __call__(self, texts):
        codes, spans = map(list, zip(*texts, strict=True))
        self.batches.append([len(of_text) for of_text in codes])
        states = [of_text[:, None].astype(np.float32) / 256 for of_text in codes]
        return EncodedTexts(states, spans, np.stack([s.mean(0) for s in states]))


def test_the_shards_together_hold_every_text_once_and_their_number_changes_nothing(tmp_path):
    texts = {f"t{k}": "abcdefgh"[k % 8] * (1 + k % 5) for k in range(60)}
    pd.DataFrame({"text_id": list(texts), "text": list(texts.values())}).to_parquet(tmp_path / "texts.parquet")
    stores = []
    for shards in (1, 3, 100):
        folders = [tmp_path / f"{shards}.{shard}" for shard in range(shards)]
        counts = [
            embed_texts(tmp_path / "texts.parquet", LetterEncoder(), folder, shard, shards, batch=7)
            for shard, folder in enumerate(folders)
        ]
        assert sum(counts) == 60 and (shards != 100 or 0 in counts)
        stores.append(FeatureStore(folders))
    for store in stores:
        assert sorted(store.place) == sorted(texts)
        for item, text in texts.items():
            np.testing.assert_array_equal(store.states(item), stores[0].states(item))
            assert len(store.states(item)) == len(store.spans(item)) == len(text)
            assert store.states(item)[0, 0] == ord(text[0]) / 256
        np.testing.assert_array_equal(store.pooled(list(texts)), stores[0].pooled(list(texts)))


def test_texts_of_one_length_in_tokens_go_together(tmp_path):
    texts = ["x" * (1 + 7 * k % 20) + " " * (11 * k % 20) for k in range(20)]
    pd.DataFrame({"text_id": texts, "text": texts}).to_parquet(tmp_path / "texts.parquet")
    encoder = LetterEncoder()
    embed_texts(tmp_path / "texts.parquet", encoder, tmp_path / "shard", 0, 1, batch=5)
    lengths = [length for batch in encoder.batches for length in batch]
    assert lengths == sorted(lengths) and [len(batch) for batch in encoder.batches] == [5] * 4


# --- pictures


class ColourEncoder:
    """The mean colour as the only state."""

    bytes_per_picture = 2 * (3 + 3)

    def prepare(self, image):
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    def __call__(self, prepared):
        states = prepared.float().mean((2, 3))[:, None]
        return EncodedImages(states, states[:, 0], None)


def colour(path):
    picture = read_picture(path)
    assert not isinstance(picture, str) and picture.mode == "RGB", picture
    return picture.getpixel((1, 1))


def test_pictures_of_every_kind_are_read_as_they_look_on_white(tmp_path):
    red, clear = (255, 0, 0), (255, 0, 0, 0)
    Image.new("RGB", (4, 4), red).save(tmp_path / "plain.png")
    Image.new("RGBA", (4, 4), clear).save(tmp_path / "clear.png")
    Image.new("RGBA", (4, 4), (255, 0, 0, 128)).save(tmp_path / "half.png")
    Image.new("LA", (4, 4), (0, 0)).save(tmp_path / "grey_clear.png")
    Image.new("L", (4, 4), 90).save(tmp_path / "grey.png")
    Image.new("L", (4, 4), 90).save(tmp_path / "grey_key.png", transparency=90)
    Image.new("RGB", (4, 4), red).save(tmp_path / "colour_key.png", transparency=red)
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "ink.jpg", quality=100)
    Image.new("1", (4, 4), 1).save(tmp_path / "bits.png")
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 255, 0, 255, 0, 0])
    palette.save(tmp_path / "palette.png")
    palette.save(tmp_path / "palette_clear.png", transparency=1)
    frames = [Image.new("RGB", (4, 4), c) for c in (red, (0, 0, 255))]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16)).save(tmp_path / "deep.png")
    seen = {path.name: colour(path) for path in tmp_path.iterdir()}
    white = (255, 255, 255)
    assert seen.pop("half.png")[1] in (126, 127, 128)
    assert seen.pop("ink.jpg")[0] > 250
    assert seen == {
        "plain.png": red,
        "clear.png": white,
        "grey_clear.png": white,
        "grey.png": (90, 90, 90),
        "grey_key.png": white,
        "colour_key.png": white,
        "bits.png": white,
        "palette.png": red,
        "palette_clear.png": white,
        "moving.gif": red,  # the first frame
        "deep.png": (128, 128, 128),
    }


def test_pictures_that_cannot_be_used_give_a_reason(tmp_path, monkeypatch):
    Image.new("RGB", (40, 40)).save(tmp_path / "good.png")
    content = (tmp_path / "good.png").read_bytes()
    broken_files = {"cut.png": content[:60], "empty.png": b"", "text.png": b"hello", "head.png": content[:8]}
    for name, broken in broken_files.items():
        (tmp_path / name).write_bytes(broken)
        assert read_picture(tmp_path / name) == "cannot be decoded"
    assert read_picture(tmp_path / "no.png") == "missing"
    monkeypatch.setattr("polclip.pictures.LARGEST_SCALED_PIXELS", 1599)
    assert read_picture(tmp_path / "good.png") == "too large"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # the library's own limit
    assert read_picture(tmp_path / "good.png", strict=True) == "too large"


def listed(tmp_path, names):
    pictures = [Picture(name, str(tmp_path / name), "s", "s", name, None, "d") for name in names]
    write_records(tmp_path / "pictures.parquet", Picture, pictures)
    return tmp_path / "pictures.parquet"


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_are_embedded_and_the_unusable_counted_by_reason(tmp_path, workers):
    shades = {f"{shade}.png": shade for shade in range(0, 250, 10)}
    for name, shade in shades.items():
        Image.new("RGB", (4, 4), (shade, 0, 0)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    names = [*list(shades)[:9], "broken.png", "lost.png", *list(shades)[9:], "lost too.png"]
    paths = (tmp_path / "out", tmp_path / "skipped.json")
    count = embed_pictures(listed(tmp_path, names), ColourEncoder(), *paths, 4, workers, {"kind": "colour"})
    store = FeatureStore([tmp_path / "out"])
    assert store.described == [{"kind": "colour"}]
    assert count == len(shades) == len(store.place) and "broken.png" not in store
    assert json.loads((tmp_path / "skipped.json").read_text()) == {"cannot be decoded": 1, "missing": 2}
    np.testing.assert_array_equal(store.pooled(list(shades))[:, 0], list(shades.values()))


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_and_large_pictures_are_embedded_and_counted_apart(tmp_path, workers):
    Image.linear_gradient("L").save(tmp_path / "cut.bmp")
    (tmp_path / "cut.bmp").write_bytes((tmp_path / "cut.bmp").read_bytes()[:-99])
    Image.new("1", (9000, 6000), 1).save(tmp_path / "large.png")
    table = listed(tmp_path, ["cut.bmp", "large.png", "lost.png"])
    assert embed_pictures(table, ColourEncoder(), tmp_path / "out", tmp_path / "skipped.json", 1, workers) == 2
    assert json.loads((tmp_path / "skipped.json").read_text()) == {TRUNCATED: 1, SCALED_DOWN: 1, "missing": 1}


def test_the_number_of_shards_changes_no_picture(tmp_path):
    names = [f"{shade}.png" for shade in range(0, 250, 10)]
    for name in names:
        Image.new("RGB", (4, 4), (int(name[:-4]), 0, 0)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    table, stores = listed(tmp_path, [*names, "broken.png"]), []
    for shards in (1, 3, 40):  # of 40 some have nothing, and one the broken picture alone
        folders, skipped = [tmp_path / f"{shards}.{shard}" for shard in range(shards)], 0
        for shard, folder in enumerate(folders):
            embed_pictures(table, ColourEncoder(), folder, tmp_path / "skipped.json", 4, shard=shard, shards=shards)
            skipped += sum(json.loads((tmp_path / "skipped.json").read_text()).values())
        stores.append(FeatureStore(folders))
        assert sorted(stores[-1].place) == sorted(names) and skipped == 1
        np.testing.assert_array_equal(stores[-1].pooled(names), stores[0].pooled(names))


@pytest.mark.parametrize("fails_at", [1, 4])  # in the middle, and behind the last picture
def test_a_batch_that_cannot_be_written_ends_the_embedding_and_leaves_nothing(tmp_path, monkeypatch, fails_at):
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    table, written = listed(tmp_path, ["good.png"] * 10), []

    def add(self, ids, *given, **optional):
        written.append(ids)
        if len(written) == fails_at + 1:
            raise OSError(28, "No space left on device")
        self.items += len(ids)

    monkeypatch.setattr("polclip.encoders.embed.ShardWriter.add", add)
    with pytest.raises(UserError, match="No space left"):
        embed_pictures(table, ColourEncoder(), tmp_path / "out", tmp_path / "skipped.json", batch=2)
    assert not (tmp_path / "out").exists() and not (tmp_path / "skipped.json").exists()


@pytest.mark.parametrize("names", [[], ["lost.png", "lost too.png"]])
def test_a_set_without_one_usable_picture_is_an_error_and_writes_nothing(tmp_path, names):
    table = listed(tmp_path, names)
    with pytest.raises(UserError, match=f"None of the {len(names)} pictures"):
        embed_pictures(table, ColourEncoder(), tmp_path / "out", tmp_path / "skipped.json", batch=2)
    assert not (tmp_path / "out").exists() and not (tmp_path / "skipped.json").exists()


def test_pictures_for_which_the_disk_has_no_room_are_refused_beforehand(tmp_path, monkeypatch):
    Image.new("RGB", (4, 4)).save(tmp_path / "good.png")
    table = listed(tmp_path, ["good.png"] * 100)
    sizes = iter([1199, 1200])  # 100 pictures of 12 bytes
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=next(sizes)))
    given = (table, ColourEncoder(), tmp_path / "new" / "out", tmp_path / "skipped.json", 50)
    with pytest.raises(UserError, match=r"100 pictures .* needs 1.2 kB and .* has 1.2 kB free"):
        embed_pictures(*given)
    assert not (tmp_path / "new").exists()
    assert embed_pictures(*given) == 100


def test_what_was_read_is_let_go_and_can_be_read_again(tmp_path):
    states = np.random.default_rng(0).normal(size=(64, 512, 384)).astype(np.float16)
    with shard_writer(tmp_path / "shard") as writer:
        writer.add([f"p{k}" for k in range(64)], states, states.mean(1))
    store = FeatureStore([tmp_path / "shard"])
    process = psutil.Process()
    before = process.memory_info().rss
    assert all((store.states(f"p{k}") == states[k]).all() for k in range(64))
    read = process.memory_info().rss
    store.let_go()
    assert read - before > 20e6 > process.memory_info().rss - before
    assert (store.states("p63") == states[63]).all()
    FeatureStore.of(["a"], states[:1], states[:1].mean(1)).let_go()  # in memory there is nothing to let go
