"""A training that is killed goes on as if it had not been, and two processes train what one would."""

import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import socket
import time
from itertools import pairwise

import pytest
import torch
from accelerate import Accelerator
from clip_world import clip_call, finished, into, lines_of, pair_call, started
from safetensors.torch import load_file
from test_reference import AS_RELEASED

from polclip.errors import UserError
from polclip.model import polclip as model_module
from polclip.training import loop, state
from polclip.training.launch import launch, run
from polclip.training.loop import Trainer
from polclip.training.state import MetricsLog, SavedState

OUTPUTS = ["config.json", "metrics.jsonl", "model.safetensors"]
# Lines of the log at which a training is killed: the first is of the look before the first step, and there is a look
# every four steps.
MOMENTS = [1, 2, 3, 4, 5, 6, 7, 9, 10, 12]
STEPS = 12


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    return {
        "pair": pair_call(tmp_path_factory.mktemp("pair")),
        "clip": clip_call(tmp_path_factory.mktemp("clip")),
    }


@pytest.fixture(scope="module")
def unbroken(calls, tmp_path_factory):
    """Folders of the trainings that nobody killed, by kind."""
    folders = {kind: tmp_path_factory.mktemp(f"unbroken_{kind}") for kind in calls}
    for kind, folder in folders.items():
        finished(into(calls[kind], folder), folder / "said.txt")
        assert len(lines_of(folder / "model")) == 1 + STEPS
    return folders


def wait_before_line(number):
    """Lets a training go no further, so that a kill that comes late still comes before the end."""
    write = MetricsLog.write

    def waiting(self, *line):
        if self.lines == number:
            time.sleep(60)
        write(self, *line)

    MetricsLog.write = waiting


def killed(call, said, lines, delay=0.0):
    """Run a call and kill it `delay` seconds after its log has so many lines, a step later at most."""
    process = started(call, said, wait_before_line, (lines + 1,))
    log = pathlib.Path(call["resume"], "metrics.jsonl")
    while not log.exists() or log.read_bytes().count(b"\n") < lines:
        assert process.is_alive(), said.read_text()
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not pathlib.Path(call["folder"]).exists()


def died(call, said, prepare, *given):
    """Run a call whose process kills itself where `prepare` tells it to."""
    process = started(call, said, prepare, given)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, said.read_text()


def outputs(folder):
    """Names of what was written. A kill in the middle of writing may leave a hidden folder beside."""
    return sorted(path.name for path in (folder / "model").iterdir() if not path.name.startswith("."))


def assert_same(folder, expected):
    """What was written is what the unbroken training wrote, and nothing is left of the saved state."""
    assert outputs(folder) == OUTPUTS
    for name in ("model.safetensors", "config.json"):
        assert (folder / "model" / name).read_bytes() == (expected / "model" / name).read_bytes(), name
    assert lines_of(folder / "model") == lines_of(expected / "model")
    assert not (folder / "resume").exists()


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


# --- kills


@pytest.mark.parametrize(("kind", "at"), [(kind, at) for kind in ("pair", "clip") for at in MOMENTS])
def test_a_killed_training_ends_as_if_nothing_had_happened(calls, unbroken, tmp_path, kind, at):
    call = into(calls[kind], tmp_path)
    killed(call, tmp_path / "said.txt", at, delay=at * 0.0037 % 0.02)
    assert (tmp_path / "resume").exists()
    finished(call, tmp_path / "second.txt")
    assert_same(tmp_path, unbroken[kind])
    # It went on from where it was: a step is lost at most.
    said = (tmp_path / "second.txt").read_text()
    if at > 2:
        going_on = int(said.split("Going on behind step ")[1].split(",")[0])
        assert at - 2 <= going_on <= at


def test_one_training_may_be_killed_again_and_again(calls, unbroken, tmp_path):
    call = into(calls["pair"], tmp_path)
    for at in (3, 7, 12):
        killed(call, tmp_path / "said.txt", at)
    finished(call, tmp_path / "said.txt")
    assert (tmp_path / "said.txt").read_text().count("Going on behind step") == 3
    assert_same(tmp_path, unbroken["pair"])


def die_half_written(module, name, number):
    """Kill this process when the module writes for the number-th time by a function: half of the file is there."""
    write, times = getattr(module, name), []

    def half(values, target):
        write(values, target)
        path = target
        if not isinstance(target, pathlib.Path):  # an open file
            target.flush()
            path = target.name
        times.append(path)
        if len(times) == number:
            whole = pathlib.Path(path).read_bytes()
            pathlib.Path(path).write_bytes(whole[: len(whole) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(module, name, half)


def die_saving_the_state():
    die_half_written(torch, "save", 9)


def die_saving_the_best():
    die_half_written(state, "save_file", 2)


def die_writing_the_model():
    die_half_written(model_module, "save_file", 1)


def die_deleting_an_old_best():
    unlink = pathlib.Path.unlink

    def die(path, **given):
        if path.name.startswith("best-"):
            os.kill(os.getpid(), signal.SIGKILL)
        unlink(path, **given)

    pathlib.Path.unlink = die


def die_copying_the_log():
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    shutil.copyfile = die


@pytest.mark.parametrize(
    "prepare",
    [die_saving_the_state, die_saving_the_best, die_deleting_an_old_best, die_writing_the_model, die_copying_the_log],
)
def test_a_kill_in_the_middle_of_writing_does_no_harm(calls, unbroken, tmp_path, prepare):
    call = into(calls["clip"], tmp_path)
    died(call, tmp_path / "said.txt", prepare)
    assert (tmp_path / "resume" / "state.pt").exists()
    finished(call, tmp_path / "said.txt")
    assert_same(tmp_path, unbroken["clip"])


def die_having_deleted(pattern):
    """Kill this process at the end of a training, when these files of the saved state are deleted and others not."""

    def remove(self):
        found = [*self.folder.glob(pattern)]
        assert found
        for path in found:
            path.unlink()
        os.kill(os.getpid(), signal.SIGKILL)

    SavedState.remove = remove


@pytest.mark.parametrize("pattern", ["state.pt", "*"])
def test_a_kill_in_the_middle_of_deleting_the_saved_state_does_no_harm(calls, unbroken, tmp_path, pattern):
    # The state goes first: no file that it names is ever missing.
    call = into(calls["clip"], tmp_path)
    died(call, tmp_path / "said.txt", die_having_deleted, pattern)
    shutil.rmtree(tmp_path / "model")  # as the workflow does before it tries again
    finished(call, tmp_path / "said.txt")
    assert_same(tmp_path, unbroken["clip"])


# --- pre-emption


def stop_itself_in_step(number, rank=0):
    """Send SIGTERM to this process, or to the one of this rank, in the middle of a step."""
    step = Trainer._step

    def stopping(self, *planned):
        if self.at.step + 1 == number and int(os.environ.get("RANK", 0)) == rank:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *planned)

    Trainer._step = stopping


@pytest.mark.parametrize("kind", ["pair", "clip"])
def test_a_training_that_is_told_to_stop_saves_its_state_and_goes_on_from_there(calls, unbroken, tmp_path, kind):
    # No state is due before the end.
    call = into(calls[kind], tmp_path, save_minutes=60)
    process = started(call, tmp_path / "said.txt", stop_itself_in_step, (6,))
    process.join(60)
    assert process.exitcode == 128 + signal.SIGTERM, (tmp_path / "said.txt").read_text()
    assert not (tmp_path / "model").exists()
    finished(call, tmp_path / "second.txt")
    assert "Going on behind step 6," in (tmp_path / "second.txt").read_text()
    assert_same(tmp_path, unbroken[kind])


def test_told_to_stop_between_accumulated_steps_training_does_the_rest_of_them_first(calls, tmp_path):
    call = into(calls["clip"], tmp_path, accumulate=4, max_steps=8, save_minutes=60)
    process = started(call, tmp_path / "said.txt", stop_itself_in_step, (2,))
    process.join(60)
    assert process.exitcode == 128 + signal.SIGTERM
    assert SavedState(tmp_path / "resume", 60).load()["position"]["step"] == 4


@pytest.fixture(scope="module")
def half_way(calls, tmp_path_factory):
    """What a training killed at step 6 has saved."""
    folder = tmp_path_factory.mktemp("half_way")
    killed(into(calls["clip"], folder), folder / "said.txt", 6)
    return folder / "resume"


def test_a_state_that_was_cut_off_counts_as_none(half_way, tmp_path):
    assert SavedState(tmp_path / "none", 0).load() is None
    saved = SavedState(shutil.copytree(half_way, tmp_path / "resume"), 0)
    path = tmp_path / "resume" / "state.pt"
    whole = path.read_bytes()
    assert saved.load()["position"]["step"] in (4, 5, 6)
    for length in [*range(12), *(len(whole) * k // 40 for k in range(1, 40)), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert saved.load() is None, length
    for other in (bytes(1000), b"nothing of the kind\n"):
        path.write_bytes(other)
        assert saved.load() is None


def spoil_state(change):
    """A change of what state.pt holds."""

    def spoil(folder):
        state = torch.load(folder / "state.pt", weights_only=True)
        torch.save(change(state), folder / "state.pt")

    return spoil


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "state.pt").write_bytes(b""), ""),
        (spoil_state(lambda state: None), "it holds something else"),
        (spoil_state(lambda state: [1]), "it holds something else"),
        (spoil_state(lambda state: {**state, "more": 1}), "it holds something else"),
        (spoil_state(lambda state: {**state, "model": {"other.weight": torch.zeros(1)}}), "of another model"),
        (spoil_state(lambda state: {**state, "position": {**state["position"], "best_file": "best-0"}}), "best-0"),
        (spoil_state(lambda state: {**state, "position": None}), "NoneType"),
        (lambda folder: (folder / "metrics.jsonl").unlink(), "metrics.jsonl"),
        (lambda folder: (folder / "metrics.jsonl").write_text(""), "metrics.jsonl is shorter than it was"),
        (lambda folder: [path.write_bytes(b"{}") for path in folder.glob("best-*")], ""),
    ],
)
def test_a_state_that_is_none_is_left_with_a_warning(calls, half_way, tmp_path, spoil, reason, caplog, capsys):
    folder = shutil.copytree(half_way, tmp_path / "resume")
    weights = torch.load(folder / "state.pt", weights_only=True)["model"]
    assert SavedState(folder, 0).load(weights) and not caplog.messages
    spoil(folder)
    assert SavedState(folder, 0).load(weights) is None
    (said,) = caplog.messages
    assert said.startswith(f"{folder}/state.pt is not the state of this training (") and reason in said
    assert said.endswith(" Training starts anew.") and said in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {**state, "optimizer": {}},
        lambda state: {**state, "position": {**state["position"], "more": 1}},
        lambda state: {**state, "random": torch.zeros(3)},
    ],
)
def test_a_state_that_does_not_fit_ends_in_a_sentence(calls, half_way, tmp_path, change):
    folder = shutil.copytree(half_way, tmp_path / "resume")
    spoil_state(change)(folder)
    with pytest.raises(
        UserError, match=r"resume does not hold the state of this training .* Delete the folder and run"
    ):
        run(into(calls["clip"], tmp_path))


def test_best_weights_that_cannot_be_read_end_in_a_sentence(tmp_path):
    (tmp_path / "best-1.safetensors").write_bytes(b"{}")
    with pytest.raises(UserError, match=r"best-1\.safetensors cannot be read .* Delete the folder"):
        SavedState(tmp_path, 0).best("best-1.safetensors")


def test_behind_a_state_that_was_cut_off_training_starts_anew(calls, unbroken, half_way, tmp_path):
    shutil.copytree(half_way, tmp_path / "resume")
    path = tmp_path / "resume" / "state.pt"
    path.write_bytes(path.read_bytes()[:20_000])
    finished(into(calls["clip"], tmp_path), tmp_path / "said.txt")
    said = (tmp_path / "said.txt").read_text()
    assert "Going on" not in said and "state.pt is not the state of this training" in said
    assert_same(tmp_path, unbroken["clip"])


# --- accumulation and patience


def watch(monkeypatch, look):
    """Call look(model) before each step."""
    step = Trainer._step

    def watched(self, *planned):
        look(self.model)
        return step(self, *planned)

    monkeypatch.setattr(Trainer, "_step", watched)


def test_accumulated_steps_move_the_weights_together(calls, tmp_path, monkeypatch):
    seen = []
    watch(monkeypatch, lambda model: seen.append(model.shared[0].mlp.c_fc.weight.detach().clone()))
    run(into(calls["clip"], tmp_path, accumulate=2, max_steps=8))
    assert [torch.equal(one, other) for one, other in pairwise(seen)] == [True, False] * 3 + [True]
    assert len(lines_of(tmp_path / "model")) == 9


@pytest.mark.parametrize("at", [4, 7])
def test_a_kill_between_accumulated_steps_is_safe(calls, tmp_path, at):
    call = into(calls["clip"], tmp_path / "killed", accumulate=2, max_steps=8)
    whole = into(calls["clip"], tmp_path / "whole", accumulate=2, max_steps=8)
    said = tmp_path / "said.txt"
    finished(whole, said)
    killed(call, said, at, delay=0.01)
    finished(call, said)
    # Saved are only states between which all gradients have been used.
    assert int(said.read_text().split("Going on behind step ")[1].split(",")[0]) % 2 == 0
    assert_same(tmp_path / "killed", tmp_path / "whole")


def scored(monkeypatch, scores):
    """Let the looks at the dev sets find these scores; gives the weights at each look."""
    looks, left = [], list(scores)

    def dev_scores(model, corpora, settings, table):
        looks.append({name: tensor.clone() for name, tensor in model.own_state().items()})
        return {"dev_textual": left.pop(0)}

    monkeypatch.setattr(loop, "dev_scores", dev_scores)
    return looks


@pytest.mark.parametrize(
    ("patience", "scores", "steps", "best"),
    [
        (2, [10.0, 20.0, 15.0, 20.0, 99.0, 99.0, 99.0], 6, 1),  # as good as the best is no gain
        (2, [10.0, 9.0, 20.0, 15.0, 14.0, 99.0, 99.0], 8, 2),  # a gain starts the count anew
        (1, [10.0, 10.0, 99.0, 99.0, 99.0, 99.0, 99.0], 2, 0),
        (None, [10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0], 12, 0),
    ],
)
def test_training_stops_after_so_many_looks_without_gain_and_keeps_the_best(
    calls, tmp_path, monkeypatch, patience, scores, steps, best
):
    looks = scored(monkeypatch, scores)
    run(into(calls["clip"], tmp_path, patience=patience, dev_every=2))
    assert len(lines_of(tmp_path / "model")) == 1 + steps and len(looks) == 1 + steps // 2
    kept = weights(tmp_path)
    assert kept.keys() == looks[best].keys()
    for number, look in enumerate(looks):
        assert all(torch.equal(kept[name], look[name]) for name in kept) == (number == best)


def test_patience_is_remembered_over_a_kill(calls, tmp_path, monkeypatch):
    call = into(calls["clip"], tmp_path, patience=2, dev_every=2)
    scored(monkeypatch, [20.0, 10.0])

    def interrupt(model):
        if len(lines_of(tmp_path / "resume")) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        watch(patch, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(call)
    scored(monkeypatch, [15.0, 99.0])
    run(call)
    assert len(lines_of(tmp_path / "model")) == 5


# --- two processes


def record_gradients(path):
    """Write the gradients of every step, before they are clipped, to a file."""
    clip, steps = Accelerator.clip_grad_norm_, []

    def recorded(self, parameters, *given):
        steps.append([None if p.grad is None else p.grad.clone() for p in parameters])
        if self.is_main_process:
            torch.save(steps, path)
        return clip(self, parameters, *given)

    Accelerator.clip_grad_norm_ = recorded


def in_two_processes(call, said, prepare, *given, ends=0):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    both = [started(call, said, prepare, given, RANK=str(k), LOCAL_RANK=str(k), **common) for k in range(2)]
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [ends, ends], said.read_text()


# Odd numbers and single phrases: the shares of the two processes differ, and one has none of its own at times.
SHARED = {"words": 7, "phrases": 1, "pictures": 23, "max_steps": 6, "dev_every": 3, "learning_rate": 0.001}


@pytest.mark.parametrize("model", [{}, AS_RELEASED], ids=["paper", "as_released"])
def test_two_processes_compute_the_losses_gradients_and_weights_of_one(calls, tmp_path, model):
    one, two = (into(calls["clip"], tmp_path / name, model, **SHARED) for name in ("one", "two"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    finished(one, tmp_path / "one.txt", record_gradients, (tmp_path / "one.pt",))
    in_two_processes(two, tmp_path / "two.txt", record_gradients, tmp_path / "two.pt")

    lines = {name: lines_of(tmp_path / name / "model") for name in ("one", "two")}
    assert len(lines["one"]) == len(lines["two"]) == 1 + SHARED["max_steps"]
    for ours, expected in zip(lines["two"], lines["one"], strict=True):
        assert ours == pytest.approx(expected, abs=1e-4)

    # Adam forgives a wrong factor; the gradients themselves do not.
    gradients = [torch.load(tmp_path / f"{name}.pt") for name in ("one", "two")]
    for ours, expected in zip(*gradients, strict=True):
        for one_of_ours, one_of_expected in zip(ours, expected, strict=True):
            if one_of_expected is not None:
                size = one_of_expected.norm().item()
                assert (one_of_ours - one_of_expected).norm().item() <= 1e-4 * max(size, 0.01)

    ours, expected = weights(tmp_path / "two"), weights(tmp_path / "one")
    for name, tensor in expected.items():
        difference = (ours[name] - tensor).abs()
        if name.endswith("in_proj_bias"):  # of queries, keys and values
            # What is added to all keys changes no attention: Adam makes steps of the rounding of a gradient of zero.
            difference = torch.stack(difference.chunk(3))[[0, 2]]
        assert difference.max() < 1e-4, name
    assert outputs(tmp_path / "two") == OUTPUTS
    assert not (tmp_path / "two" / "resume").exists()


def test_where_one_of_two_processes_is_told_to_stop_both_stop_behind_the_same_step(calls, tmp_path):
    call = into(calls["clip"], tmp_path, **SHARED, save_minutes=60)
    in_two_processes(call, tmp_path / "said.txt", stop_itself_in_step, 4, 1, ends=128 + signal.SIGTERM)
    assert SavedState(tmp_path / "resume", 60).load()["position"]["step"] == 4


def test_two_processes_that_are_told_to_stop_save_their_state_too(calls, tmp_path):
    call = into(calls["clip"], tmp_path, **SHARED | {"max_steps": 100_000, "epochs": 100_000, "save_minutes": 60})
    process = multiprocessing.get_context("spawn").Process(target=launch, args=(call, 2))
    process.start()
    log = tmp_path / "resume" / "metrics.jsonl"
    while not log.exists() or log.read_bytes().count(b"\n") < 5:
        assert process.is_alive()
        time.sleep(0.05)
    process.terminate()  # torchrun and what it started hear of it from this process alone
    process.join(60)
    assert process.exitcode == 128 + signal.SIGTERM
    step = SavedState(tmp_path / "resume", 60).load()["position"]["step"]
    assert step == len(log.read_text().splitlines()) - 1 >= 4


def test_a_launch_over_two_processes_writes_what_a_launch_here_does_once(calls, tmp_path):
    one, two = (into(calls["clip"], tmp_path / name, **SHARED) for name in ("one", "two"))
    launch(one)
    launch(two, processes=2)
    assert outputs(tmp_path / "two") == OUTPUTS
    assert [line["step"] for line in lines_of(tmp_path / "two" / "model")] == [0, 1, 2, 3, 4, 5, 6]
    for ours, expected in zip(lines_of(tmp_path / "two" / "model"), lines_of(tmp_path / "one" / "model"), strict=True):
        assert ours == pytest.approx(expected, abs=1e-4)
    config = json.loads((tmp_path / "two" / "model" / "config.json").read_text())
    assert config == json.loads((tmp_path / "one" / "model" / "config.json").read_text())


def test_nodes_that_cannot_be_used_are_refused(calls, tmp_path, monkeypatch):
    call = into(calls["clip"], tmp_path, **SHARED)
    with pytest.raises(UserError, match="3 GPUs cannot be spread evenly over 2 nodes"):
        launch(call, processes=3, nodes=2)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(UserError, match="started by srun in a Slurm job"):
        launch(call, processes=2, nodes=2)
