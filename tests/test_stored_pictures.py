"""Pictures of a run are asked for by the features that the workflow stored."""

import numpy as np
import pytest
from typer.testing import CliRunner

from polclip import Disambiguator
from polclip.cli import app
from polclip.stored_pictures import pictures_of


@pytest.fixture
def opened(run_in_use):
    return Disambiguator.from_pretrained(run_in_use.model, archives=run_in_use.archives, download=False)


@pytest.fixture
def no_encoder(opened, monkeypatch):
    def fails(_):
        raise AssertionError("the image encoder was opened")

    monkeypatch.setattr(type(opened.reader), "image_encoder", property(fails))


def test_a_style_of_a_run_is_read_without_its_encoder(run_in_use, opened, no_encoder):
    folder = run_in_use.results / "pictures" / "emojione"
    files = sorted(folder.glob("*.png"))
    assert pictures_of(opened, folder).images == tuple(map(str, files))


def test_stored_pictures_are_those_that_are_encoded_now(run_in_use, opened, tmp_path):
    folder = run_in_use.results / "pictures"
    stored, now = pictures_of(opened, folder), opened.read_pictures(folder)
    assert len(stored.skipped) == len(now.skipped) == len(run_in_use.broken)
    order = [stored.images.index(image) for image in now.images]
    np.testing.assert_allclose(stored.vectors.plain[order], now.vectors.plain, atol=2e-3)


def test_imagine_names_pictures_of_a_run(run_in_use, no_encoder):
    folder = str(run_in_use.results / "pictures" / "emojione")
    named = ["--model", str(run_in_use.model), "--archives", str(run_in_use.archives), "--offline"]
    result = CliRunner().invoke(app, ["imagine", "bat%1:05:00::", folder, "-k", "2", *named])
    assert result.exit_code == 0 and result.stdout.count(f"{folder}/") == 2
