"""The workflow as jobs of a real Slurm, by profiles/slurm; and the key nowhere in it.

The one run that most tests look at is put to trouble on its way: a job takes too much memory, a node is drained,
Snakemake is killed while jobs run, and the training's job is cancelled.
"""

import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import pytest
import yaml
from local_slurm import NoSlurm, local_slurm, said, wait_until
from openai_server import Reply, openai_server
from safetensors.torch import load_file
from tiny_project import ROOT, snakemake, surroundings, write_yaml
from tiny_run import LESS_PRESETS, make_less

from polclip.files import read_json_lines

CANARY = "canary-not-a-key-789"
# Each script says first that it runs.
RUNS = 'with open("ran.txt", "a") as ran:\n    ran.write(" ".join(map(str, snakemake.output)) + "\\n")\n'
# One picture style takes more than the 1000 MB of its rule, and less than twice as much.
HUNGRY = """
if snakemake.wildcards.style == "noto":
    import time

    much = b"x" * 1_000_000_000
    time.sleep(3)
"""
# The plugin looks ten seconds later each time that it finds nothing new.
LOOK_EACH_SECOND = """
plugin = sys.modules["snakemake_executor_plugin_slurm"]
plugin.Executor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)
"""
STARTED = []
HUNGRY_JOB = "rule_render_pictures_wildcards_noto"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The folder of a Slurm that runs."""
    folder = tmp_path_factory.mktemp("slurm")
    try:
        running = local_slurm(folder)
        running.__enter__()
    except NoSlurm as reason:
        pytest.skip(f"no Slurm: {reason}")
    yield folder
    for process in STARTED:  # by tests that failed
        process.kill()
        process.wait()
    running.__exit__(None, None, None)


def look_each_second(project):
    """Let Snakemake ask Slurm often."""
    with open(project / "Snakefile", "a") as file:
        file.write(LOOK_EACH_SECOND)
    return project


@pytest.fixture(scope="module")
def local(tmp_path_factory, scored):
    """A project whose scores were computed without Slurm."""
    return look_each_second(shutil.copytree(scored, tmp_path_factory.mktemp("local") / "project"))


# Other than in the profile: this Slurm has no database, and nobody wants to wait.
SLURM_HERE = (
    *("--slurm-status-command", "squeue", "--slurm-keep-successful-logs"),
    *("--slurm-init-seconds-before-status-checks", "2"),
)


def on_slurm(project, *arguments, presets=LESS_PRESETS, profile="slurm", here=SLURM_HERE):
    """Start Snakemake with a profile, a key in its environment; what it says goes to said.txt."""
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", f"profiles/{profile}", *arguments]
    command += [*here, "--latency-wait", "5", "--configfile", *presets]
    environment = surroundings(project) | {"OPENAI_API_KEY": CANARY, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    with open(project / "said.txt", "a") as log:
        STARTED.append(subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=log))
    return STARTED[-1]


def ended(process, project, seconds=240):
    assert process.wait(seconds) == 0, (project / "said.txt").read_text()


def jobs(project=None):
    """All jobs that Slurm remembers: id, state, node and what they were for."""
    lines = said("squeue", "--states=all", "--noheader", "--sort=i", "--format=%i|%T|%N|%k|%Z").stdout.splitlines()
    found = [SimpleNamespace(**dict(zip(("id", "state", "node", "of", "folder"), line.split("|"), strict=True)))
             for line in lines]  # fmt: skip
    return [job for job in found if project is None or job.folder == str(project)]


def running(project, *of):
    return [job for job in jobs(project) if job.state == "RUNNING" and job.of.startswith(of)]


@contextmanager
def watched():
    """What the environments of jobs' processes hold for the key, looked at again and again."""
    held, over = Counter(), Event()

    def look():
        while not over.wait(0.2):
            for path in Path("/proc").glob("[0-9]*/environ"):
                try:
                    environment = path.read_bytes()
                except OSError:
                    continue
                if b"SLURM_JOB_ID=" in environment:
                    held.update(re.findall(rb"OPENAI_API_KEY=[^\0]*", environment))

    thread = Thread(target=look)
    thread.start()
    try:
        yield held
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def run(tmp_path_factory, mirror, slurm):
    """The whole workflow on Slurm, with the trouble above."""
    project = look_each_second(make_less(tmp_path_factory.mktemp("troubled") / "project", mirror))
    for script in (project / "workflow_scripts").glob("*.py"):
        script.write_text(RUNS + (HUNGRY if script.stem == "render_pictures" else "") + script.read_text())
    # Slow enough to be cancelled in the middle.
    loop = project / "polclip" / "training" / "loop.py"
    step = "values = self._step(planned, moved)\n"
    loop.write_text(loop.read_text().replace(step, f"{step}                __import__('time').sleep(2)\n"))
    with watched() as held:
        process = on_slurm(project)
        wait_until(lambda: running(project, "rule_render_pictures"), 120)
        node = running(project, "rule_render_pictures")[0].node
        said("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
        drained = SimpleNamespace(node=node, before=jobs(project))

        # The hungry job is there for the second time, with more.
        wait_until(lambda: [job.of for job in jobs(project)].count(HUNGRY_JOB) == 2, 240)
        wait_until(lambda: running(project, "rule_embed_pictures"), 240)
        process.send_signal(signal.SIGKILL)
        process.wait()
        left = [job.of for job in running(project, "rule_")]
        wait_until(lambda: all(job.state not in ("PENDING", "RUNNING", "COMPLETING") for job in jobs(project)), 120)
        unlocked = snakemake(project, "--unlock", presets=LESS_PRESETS)
        assert unlocked.returncode == 0, unlocked.stderr

        process = on_slurm(project)
        metrics = project / "resources" / "resume"
        wait_until(lambda: any(p.read_bytes().count(b"\n") > 1 for p in metrics.glob("*/metrics.jsonl")), 240)
        (training,) = running(project, "rule_train")
        said("scancel", training.id)
        ended(process, project)
    said("scontrol", "update", f"NodeName={node}", "State=RESUME")
    return SimpleNamespace(
        project=project, said=(project / "said.txt").read_text(), jobs=jobs(project), drained=drained, left=left,
        cancelled=training.id, held=held, ran=Counter((project / "ran.txt").read_text().splitlines()),
    )  # fmt: skip


def log_of(run, job):
    (log,) = (run.project / ".snakemake" / "slurm_logs").rglob(f"{job}.log")
    return log.read_text()


def test_slurm_jobs_score_what_local_ones_do(run, local):
    scores = [folder / "results/tiny/tables/scores.tsv" for folder in (run.project, local)]
    assert scores[0].read_bytes() == scores[1].read_bytes()
    assert (run.project / "results/tiny/report/index.html").exists()


def test_small_steps_share_a_job_and_downloads_are_none(run):
    of = [job.of for job in run.jobs]
    for steps in ("corpora_inventory_wordnet_examples", "evaluation_predict_score", "report_costs"):
        assert len([name for name in of if name.startswith(f"rule_{steps}")]) == 1, (steps, of)
    assert not any("download" in name or "write_definitions" in name for name in of)


def test_a_job_over_its_memory_is_tried_again_with_more(run):
    first, second = (job for job in run.jobs if job.of == HUNGRY_JOB)
    assert (first.state, second.state) == ("FAILED", "COMPLETED")
    assert "exceeded memory limit" in log_of(run, first.id)
    for job, memory in ((first, "1000M"), (second, "2000M")):
        assert f"MinMemoryNode={memory}" in said("scontrol", "show", "job", job.id).stdout


def test_a_drained_node_ends_its_jobs_and_gets_no_more(run):
    before = {job.id for job in run.drained.before}
    on_it = {job.id for job in run.drained.before if job.node == run.drained.node and job.state == "RUNNING"}
    assert on_it
    ends = {job.state for job in run.jobs if job.id in on_it and job.of != HUNGRY_JOB}
    assert ends <= {"COMPLETED"}
    later = [job for job in run.jobs if job.id not in before]
    assert len(later) >= 6 and run.drained.node not in {job.node for job in later}


def test_a_cancelled_training_goes_on_where_it_was(run):
    first, second = (job for job in run.jobs if job.of == "rule_train_wildcards_main_1")
    assert (first.id, first.state, second.state) == (run.cancelled, "CANCELLED", "COMPLETED")
    (stopped,) = re.findall(r"Told to stop: the state behind step (\d+) is saved", log_of(run, first.id))
    assert f"Going on behind step {stopped}," in log_of(run, second.id)


def test_nothing_that_was_done_is_done_twice(run):
    assert any("embed_pictures" in of for of in run.left)  # jobs that went on without Snakemake
    twice = {outputs.split()[0]: times for outputs, times in run.ran.items() if times != 1}
    assert twice == {"results/tiny/pictures/noto": 2, "results/tiny/models/main/seed-1/model.safetensors": 2}


def test_the_key_is_in_no_job_and_no_file(run, slurm):
    assert set(run.held) == {b"OPENAI_API_KEY="} and run.held.total() > 50
    kept = [*(slurm / "state").glob("hash.*/job.*/environment")]
    assert kept and b"OPENAI_API_KEY=\0" in kept[0].read_bytes()
    assert files_with_the_key(run.project, slurm) == []
    assert CANARY not in said("scontrol", "show", "job", "-dd").stdout


def files_with_the_key(*folders):
    files = [path for folder in folders for path in Path(folder).rglob("*") if path.is_file()]
    return [path for path in files if CANARY.encode() in path.read_bytes()]


def test_the_key_reaches_the_one_local_job_that_asks(local, slurm, tmp_path):
    project = shutil.copytree(local, tmp_path / "project")
    overlay = yaml.safe_load((ROOT / "presets" / "demo_definitions.yaml").read_text(encoding="utf-8"))
    with openai_server() as server, watched() as held:
        server.reply = lambda number, body: Reply(text="a definition of the word")
        overlay["definitions"]["base_url"] = server.url
        write_yaml(project / "asked.yaml", {"definitions": overlay["definitions"]})
        target = "results/tiny/definitions/hard.test.jsonl"
        process = on_slurm(project, target, presets=(*LESS_PRESETS, "asked.yaml"))
        ended(process, project)
    assert [job.of for job in jobs(project)] == ["rule_plan_definitions_wildcards_hard_test"]
    assert set(server.keys) == {f"Bearer {CANARY}"} and set(held) == {b"OPENAI_API_KEY="}
    assert files_with_the_key(project, slurm) == []


# As the profile has them for several nodes.
NODES = ("nodes=2", "tasks=2", "tasks_per_gpu=0", "mpi=srun", "slurm_extra=\"'--export'=ALL,OPENAI_API_KEY=\"")


def test_two_processes_in_a_slurm_job_train_what_one_does(local, slurm, tmp_path):
    """Both on one node, and each on a node of its own."""
    model = "results/tiny/models/main/seed-1"
    started = {}
    for nodes, resources in ((1, ()), (2, NODES)):
        project = shutil.copytree(local, tmp_path / f"nodes_{nodes}")
        shutil.rmtree(project / model)
        given = [f"train:{resource}" for resource in ("gpu=2", *resources)]
        started[nodes] = project, on_slurm(project, f"{model}/model.safetensors", "--set-resources", *given)
    for nodes, (project, process) in started.items():
        ended(process, project)
        (job,) = jobs(project)
        shown = said("scontrol", "show", "job", job.id).stdout
        assert "TresPerJob=gres:gpu:2" in shown and f"NumNodes={nodes} " in shown
        assert "Told to stop" not in (project / "said.txt").read_text()
        assert files_with_the_key(project, slurm) == []
        assert_trained_alike(project / model, local / model)


def assert_trained_alike(*folders):
    ours, expected = ([*read_json_lines(folder / "metrics.jsonl")] for folder in folders)
    assert len(ours) == len(expected) == 5
    for one, other in zip(ours, expected, strict=True):
        assert one | {"seconds": 0} == pytest.approx(other | {"seconds": 0}, abs=1e-4)
    ours, expected = (load_file(folder / "model.safetensors") for folder in folders)
    for name, tensor in expected.items():
        difference = (ours[name] - tensor).abs()
        if name.endswith("in_proj_bias"):  # of queries, keys and values; those of keys change no attention
            difference = difference.unflatten(0, (3, -1))[[0, 2]]
        assert difference.max() < 1e-4, name


def test_a_submit_command_does_as_well_and_hands_on_no_key(local, slurm, tmp_path):
    project = shutil.copytree(local, tmp_path / "project")
    shutil.rmtree(project / "results/tiny/tables")
    table = "results/tiny/tables/scores.tsv"
    with watched() as held:
        here = ("--seconds-between-status-checks", "1")
        ended(on_slurm(project, table, profile="generic_cluster", here=here), project)
    assert (project / table).read_bytes() == (local / table).read_bytes()
    assert len(jobs(project)) == 1 and not held
    assert files_with_the_key(project, slurm) == []


def test_the_status_of_a_job_is_told_to_snakemake(slurm):
    status = ROOT / "profiles" / "generic_cluster" / "status"
    for command, signals, told in (
        ("true", [], "success"),
        ("false", [], "failed"),
        ("sleep 60", [], "running"),
        ("sleep 60", ["scancel"], "failed"),
    ):
        job = said("sbatch", "--parsable", "--output=/dev/null", "--mem=10", f"--wrap={command}").stdout.strip()
        for name in signals:
            said(name, job)
        wait_until(lambda job=job, told=told: said(str(status), job).stdout.strip() == told, 30)
