"""What several modules of tests are given."""

import pytest
from download_server import serving


@pytest.fixture
def server():
    """A server on the loopback that gives an archive of bats, or fails as its plan says."""
    with serving() as server:
        yield server


@pytest.fixture
def destination(tmp_path):
    """Where that archive is to go."""
    return tmp_path / "resources" / "archives" / "bats.zip"
