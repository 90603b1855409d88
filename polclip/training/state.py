"""What a training is saved as, so that a kill at any moment loses minutes and changes nothing in the end.

The folder lies outside the outputs, which a workflow deletes before each attempt, and is named by a digest of all
that decides the training's course: a change of settings, corpora or code starts anew.
"""

import json
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from polclip.errors import UserError
from polclip.files import complete_or_absent
from polclip.full_disk import full_disk_told

log = logging.getLogger(__name__)
KEYS = frozenset(
    ("position", "model", "averaged", "optimizer", "scaler", "table", "random", "random_gpu", "lines", "seconds")
)


class SavedState:
    """The folder of one training: `state.pt`, the best weights so far, and `metrics.jsonl`."""

    def __init__(self, folder: str | Path, save_minutes: float) -> None:
        self.folder, self.save_minutes = Path(folder), save_minutes
        self.folder.mkdir(parents=True, exist_ok=True)
        self._saved = time.monotonic()

    def load(self, weights: Mapping[str, Tensor] | None = None) -> dict | None:
        """The last state; None where there is none, or, with a warning, none that can be used.

        weights: those of the model before training, whose names and shapes the state's have to have.
        """
        path = self.folder / "state.pt"
        if not path.exists():
            return None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self._check(state, weights)
        except Exception as error:  # a file that is no state can fail in any way
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            warning = f"{path} is not the state of this training ({reason}). Training starts anew."
            log.warning(warning)
            tqdm.write(warning)
            return None
        return state

    def _check(self, state: object, weights: Mapping[str, Tensor] | None) -> None:
        """Raise ValueError, or another error, where the state is not one, or where what it names is not whole."""
        if not isinstance(state, dict) or state.keys() != KEYS:
            raise ValueError("it holds something else")
        if weights is not None:
            shapes = {name: tensor.shape for name, tensor in weights.items()}
            if {name: tensor.shape for name, tensor in state["model"].items()} != shapes:
                raise ValueError("its weights are of another model")
        if len((self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) < state["lines"]:
            raise ValueError("metrics.jsonl is shorter than it was")
        with safe_open(self.folder / state["position"]["best_file"], "pt") as best:
            best.keys()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._saved >= 60 * self.save_minutes

    def save(self, state: dict) -> None:
        """Write the state whole or not at all; best weights that it does not name are no longer needed."""
        # Through a file of Python's, whose error tells of a full disk; torch's own says "unexpected pos".
        with complete_or_absent(self.folder / "state.pt") as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
        for path in self.folder.glob("best-*.safetensors"):
            if path.name != state["position"]["best_file"]:
                path.unlink()
        self._saved = time.monotonic()

    def save_best(self, weights: dict[str, Tensor], name: str) -> None:
        """Write the best weights so far; those before stay until a state is saved that names these."""
        with complete_or_absent(self.folder / name) as temporary:
            save_file({key: tensor.contiguous() for key, tensor in weights.items()}, temporary)

    def best(self, name: str) -> dict[str, Tensor]:
        """The best weights; UserError where they cannot be read."""
        try:
            return load_file(self.folder / name)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{self.folder / name} cannot be read ({error}). Delete the folder {self.folder} and run the same "
                "command again: the training starts anew."
            ) from error

    def remove(self) -> None:
        """Delete the folder: the training has come to its end, its outputs are written."""
        (self.folder / "state.pt").unlink(missing_ok=True)  # first, so that no state outlives what it names
        shutil.rmtree(self.folder)


class MetricsLog:
    """`metrics.jsonl`: a line a step, and the same numbers for TensorBoard where it is asked for.

    lines, seconds: what a saved state had already written; lines behind are of steps that are done again.
    board: folder of TensorBoard's files, or None.
    """

    def __init__(self, folder: Path, lines: int, seconds: float, board: Path | None = None) -> None:
        path = folder / "metrics.jsonl"
        kept = path.read_text(encoding="utf-8").splitlines(keepends=True)[:lines] if lines else []
        path.write_text("".join(kept), encoding="utf-8")
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115  closed by close()
        self.lines, self._started = lines, time.monotonic() - seconds
        self.board = _summary_writer(board) if board else None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def write(self, step: int, values: dict[str, float | str]) -> None:
        with full_disk_told(self.file.name, "The state that was saved last is kept"):
            self.file.write(json.dumps({"step": step, "seconds": round(self.seconds, 3), **values}) + "\n")
            self.file.flush()
        self.lines += 1
        for name, value in values.items() if self.board else ():
            if not isinstance(value, str):
                self.board.add_scalar(name, value, step)

    def close(self) -> None:
        self.file.close()
        if self.board:
            self.board.close()


def _summary_writer(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("training.tensorboard: true needs the package tensorboard: pip install tensorboard") from None
    return SummaryWriter(folder)
