"""What a training is saved as, so that a kill at any moment loses minutes and changes nothing in the end.

The folder lies outside the outputs, which a workflow deletes before each attempt, and is named by a digest of all
that decides the training's course: a change of settings, corpora or code starts anew.
"""

import json
import shutil
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polclip.errors import UserError
from polclip.files import complete_or_absent
from polclip.full_disk import full_disk_told


class SavedState:
    """The folder of one training: `state.pt`, the best weights so far, and `metrics.jsonl`."""

    def __init__(self, folder: str | Path, save_minutes: float) -> None:
        self.folder, self.save_minutes = Path(folder), save_minutes
        self.folder.mkdir(parents=True, exist_ok=True)
        self._saved = time.monotonic()

    def load(self) -> dict | None:
        """The last state, or None where there is none that can be read: then training starts anew."""
        try:
            return torch.load(self.folder / "state.pt", map_location="cpu", weights_only=True)
        except Exception:  # a file that is no state can fail in any way
            return None

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
        return load_file(self.folder / name)

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
