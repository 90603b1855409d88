"""What several modules of tests are given."""

import pytest
from download_server import serving
from tiny_project import make_mirror, make_project, snakemake
from tiny_run import LESS_PRESETS, SCORES, finished_run, make_less, succeed


@pytest.fixture
def server():
    """A server on the loopback that gives an archive of bats, or fails as its plan says."""
    with serving() as server:
        yield server


@pytest.fixture
def destination(tmp_path):
    """Where that archive is to go."""
    return tmp_path / "resources" / "archives" / "bats.zip"


@pytest.fixture(scope="session")
def run_in_use(finished):
    """The finished run with its model opened and its glosses indexed: look at it, and damage a copy."""
    from served_run import in_use  # with torch, which few tests need

    return in_use(finished)


@pytest.fixture(scope="session")
def page_server(run_in_use):
    """`polclip serve` upon it."""
    from served_run import served

    with served(run_in_use) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    """A Chromium; tests are skipped where none can be had."""
    from local_chromium import NoChromium, local_chromium

    try:
        with local_chromium() as browser:
            yield browser
    except NoChromium as why:
        pytest.skip(str(why))


@pytest.fixture
def open_in_browser(browser):
    from local_chromium import watched_pages

    with watched_pages(browser) as open_page:
        yield open_page


@pytest.fixture(scope="session")
def mirror(tmp_path_factory):
    """Tiny archives under the names of the real ones."""
    return make_mirror(tmp_path_factory.mktemp("archives") / "mirror")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, mirror):
    """The finished run of a tiny project: look at it, and let others run on in a copy."""
    return finished_run(make_project(tmp_path_factory.mktemp("tiny") / "project", mirror))


@pytest.fixture(scope="session")
def run(finished):
    """The same, for modules without a `run` of their own."""
    return finished


@pytest.fixture(scope="session")
def scored(tmp_path_factory, mirror):
    """A project of `LESS` whose scores were computed here, as any: let others run on in a copy."""
    project = make_less(tmp_path_factory.mktemp("scored") / "project", mirror)
    succeed(snakemake(project, SCORES, presets=LESS_PRESETS))
    return project
