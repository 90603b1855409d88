"""The workflow with all its files in a bucket: the scores are those of a run on a disk, whatever the server does."""

import shutil
import subprocess

import pytest
from s3_server import BUCKET, s3_server
from tiny_project import command, surroundings
from tiny_run import LESS_PRESETS, SCORES


@pytest.fixture(scope="module")
def server():
    with s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def project(tmp_path_factory, scored):
    """A project whose scores were computed on this disk."""
    return shutil.copytree(scored, tmp_path_factory.mktemp("bucket") / "project")


def in_bucket(project, server, prefix, *arguments):
    """Run Snakemake with all files under a prefix of the bucket; what it said."""
    stored = ["--default-storage-provider", "s3", "--default-storage-prefix", f"s3://{BUCKET}/{prefix}"]
    keys = {"SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "of-a-test", "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "of-a-test"}
    done = subprocess.run(
        command(*arguments, *stored, "--storage-s3-endpoint-url", server.url, presets=LESS_PRESETS), cwd=project,
        env=surroundings(project) | keys | {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"},
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_whole_workflow_scores_in_a_bucket_what_it_does_on_a_disk(project, server):
    before = {path for path in project.rglob("*") if ".snakemake" not in path.parts}
    in_bucket(project, server, "whole")
    assert server.read(f"whole/{SCORES}") == (project / SCORES).read_bytes()
    page = server.read("whole/results/tiny/report/index.html").decode()
    # The pictures that the page shows are fetched for it, and its costs are those of the jobs.
    assert page.count("data:image/jpeg") > 20
    assert b'"rule": "train"' in server.read("whole/results/tiny/costs.json")
    made = {path for path in project.rglob("*") if ".snakemake" not in path.parts} - before
    assert {path.relative_to(project).parts[0] for path in made} <= {"polclip", "resources"}
    assert "Nothing to be done" in in_bucket(project, server, "whole", "-n")


def test_a_server_that_fails_every_third_request_changes_no_score(project, server):
    server.failing, server.failures = 3, 0
    in_bucket(project, server, "failing", SCORES)
    server.failing = None
    # Many more than the 36 that botocore's own quota allows where files are not there yet.
    assert server.failures > 500
    assert server.read(f"failing/{SCORES}") == (project / SCORES).read_bytes()
