"""The training loop: the four losses over steps that are planned from the seed, saved as it goes.

Run it through the workflow: `snakemake --cores 2 --configfile presets/demo.yaml
results/demo/models/main/seed-42/model.safetensors`.
"""

import shutil
import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast_object_list
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from polclip.corpora.texts import Definitions
from polclip.encoders.embed import EncoderSettings
from polclip.encoders.feature_store import FeatureStore
from polclip.errors import UserError
from polclip.evaluation.predict import rank_queries, rank_words
from polclip.files import complete_or_absent
from polclip.inventory import Inventory
from polclip.model.polclip import PolCLIP
from polclip.model.representations import GlossVectors
from polclip.records import VisualInstance
from polclip.training.batches import make_batch, make_step
from polclip.training.corpora import SenseCorpus, TextualCorpus, read_queries
from polclip.training.preemption import EXIT_CODE, when_told_to_stop
from polclip.training.schedule import PlannedStep, Stream, parameter_groups, plan_epoch, rate
from polclip.training.sense_table import SenseTable
from polclip.training.settings import TrainingSettings
from polclip.training.start import check_features, preprocessing_of, starting_model, take_over
from polclip.training.state import MetricsLog, SavedState

# A sense has a gradient once in hundreds of steps: AdamW's momentum and its long memory of squares would carry its
# offset on for dozens of steps after each.
OFFSET_BETAS = (0.0, 0.9)
# Shares of learning_rate. What a group learns all its senses get, those too that training never has as a gold.
OFFSET_RATES = {"sense_vectors.offsets": 1 / 2, "sense_vectors.group_offsets": 1 / 8}


@dataclass(frozen=True)
class Corpora:
    """What training reads: the textual instances, the senses with pictures (None: the other alone), the dev sets."""

    inventory: Inventory
    texts: FeatureStore
    pictures: FeatureStore
    textual: TextualCorpus | None
    visual: SenseCorpus | None
    textual_dev: list[TextualCorpus]
    visual_dev: list[tuple[VisualInstance, list[str]]]


def train(
    folder: str | Path,
    inventory: Inventory,
    texts: FeatureStore,
    pictures: FeatureStore,
    *,
    textual_train: Sequence[str | Path],
    textual_dev: Sequence[str | Path],
    pictures_train: Sequence[str | Path],
    phrases: Sequence[str | Path],
    visual_dev: Sequence[str | Path],
    definitions: Definitions,
    forms: Sequence[str],
    model: dict,
    encoder: dict,
    context_words: int,
    towers: str | Path | None,
    text_weights: str | Path | None,
    settings: TrainingSettings,
    seed: int,
    device: str,
    resume: str | Path,
    start: str | Path | None = None,
    encoders: dict | None = None,
) -> None:
    """Train one model and write `model.safetensors`, `config.json` and `metrics.jsonl` into `folder`.

    The weights that do best on the dev sets (mean of textual accuracy and visual HR@1) are kept, those at the start
    among them. The same seed on the same machine with the same number of threads gives the same weights on CPU,
    however often training was killed and called again. SIGTERM ends it behind the step under way, with its state saved
    and SystemExit(143).

    Args:
        textual_train, textual_dev, visual_dev: Parquet files of instances.
        pictures_train, phrases: Parquet files of Picture and Phrase, the senses that pictures show.
        definitions: of those files of dev instances that have some.
        forms: of the visual dev queries, see `query_texts`.
        context_words: of the windows that words are read in, see `in_windows`.
        model, encoder, towers, text_weights: what `starting_model` makes the model of.
        device: cpu or cuda; under torchrun each process takes its own GPU.
        resume: folder of the state that a killed training goes on from; deleted at the end.
        start: folder of a model that training starts from, see `take_over`.
        encoders: what is written beside the model as `encoders.json`, see `polclip.encoders.described`.
    """
    torch.manual_seed(seed)
    textual, visual = "textual" in settings.tasks, "visual" in settings.tasks
    if settings.precision == "fp16" and device == "cpu":
        raise UserError('training.precision: fp16 needs a GPU, and torch finds none here. Write bf16 or "no".')
    if not visual and not textual_dev:
        raise UserError("corpora.textual.dev: [] is empty. Training chooses the best weights by it: name a set there.")
    tokens = texts.holds_tokens or model["trainable_text_blocks"] > 0
    read = TextualCorpus.read(textual_train, inventory, texts, {}, context_words, tokens) if textual else None
    senses = read.gold_synsets() if read else []
    groups = sorted({name for s in read.synsets for name in inventory.lineage(s)[1:]}) if read else []
    check_features(texts, EncoderSettings(**encoder).of_texts(), "texts")
    polclip = starting_model(model, encoder, towers, pictures, text_weights, senses, groups)
    if start:
        take_over(polclip, start)
    polclip.encoders = encoders and {**encoders, "preprocess": preprocessing_of(polclip)}
    dev = [read_queries([path], definitions, forms) for path in visual_dev] if visual else []
    corpora = Corpora(
        inventory,
        texts,
        pictures,
        read,
        SenseCorpus.read(phrases, pictures_train, pictures) if visual else None,
        [TextualCorpus.read([path], inventory, texts, definitions, context_words, tokens) for path in textual_dev]
        if textual
        else [],
        [query for of_set in dev for query in _some(of_set, settings.dev_instances)],
    )
    if visual and not corpora.visual_dev:
        raise UserError(f"No visual query in {', '.join(map(str, visual_dev))}: check corpora.visual.dev.")
    if not textual and not corpora.visual.synsets:
        raise UserError(
            f"Without textual instances phrases ask for pictures, and there are none for the pictures of "
            f"{', '.join(map(str, pictures_train))}: check corpora.visual.train and training.tasks."
        )
    saved = SavedState(resume, settings.save_minutes)
    with when_told_to_stop() as told:
        trainer = Trainer(polclip, corpora, settings, seed, device, saved, Path(folder))
        trainer.run(told)
        trainer.finish()


def _some(items: Sequence, most: int) -> list:
    """At most so many items, evenly spread."""
    return [items[k] for k in np.linspace(0, len(items) - 1, min(len(items), most)).astype(int)]


@dataclass
class Position:
    """Where a training stands: the next step is number `place` of `epoch`."""

    step: int = 0  # done in all
    epoch: int = 0
    place: int = 0
    done: float = 0.0  # share of the epoch
    best: float = -1.0
    best_file: str = ""
    looks_without_gain: int = 0


class Trainer:
    """After each step all that decides the rest can be saved, and a new process goes on from there."""

    def __init__(
        self,
        model: PolCLIP,
        corpora: Corpora,
        settings: TrainingSettings,
        seed: int,
        device: str,
        saved: SavedState,
        folder: Path,
    ) -> None:
        self.accelerator = Accelerator(
            cpu=device == "cpu",
            mixed_precision=settings.precision,
            # text_only leaves the image tower's end without a gradient
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.model, self.corpora, self.settings, self.seed = model, corpora, settings, seed
        self.saved, self.folder = saved, folder
        self.is_main = self.accelerator.is_main_process
        optimizer = torch.optim.AdamW(self._groups(), fused=True)
        self.table = None
        if settings.sense_table and corpora.textual is not None:
            synsets = [s for corpus in (corpora.textual, *corpora.textual_dev) for s in corpus.synsets]
            self.table = SenseTable(corpora.texts, corpora.inventory, synsets)
        state = saved.load(model.state_dict())
        if state:
            model.load_state_dict(state["model"])
        # Behind this, `forward` is the model, or what spreads it over processes.
        self.forward, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.averaged = None
        if settings.average is not None:
            self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.average))
        self.scaler = self.accelerator.scaler or torch.amp.GradScaler(enabled=False)
        self.at, lines, seconds = Position(), 0, 0.0
        if state:
            try:
                self._restore(state)
            except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                raise UserError(
                    f"{saved.folder} does not hold the state of this training ({error!r}). Delete the folder and run "
                    "the same command again: the training starts anew."
                ) from error
            lines, seconds = state["lines"], state["seconds"]
            tqdm.write(f"Going on behind step {self.at.step}, saved in {saved.folder}.")
        board = folder / "tensorboard" if settings.tensorboard else None
        self.log = MetricsLog(saved.folder, lines, seconds, board) if self.is_main else None

    def _restore(self, state: dict) -> None:
        """Bring all but the model's weights to a saved state."""
        self.at = Position(**state["position"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.averaged:
            self.averaged.load_state_dict(state["averaged"])
        if self.table:
            self.table.glosses = GlossVectors(*state["table"])
        torch.set_rng_state(state["random"])
        if state["random_gpu"] is not None:
            torch.cuda.set_rng_state(state["random_gpu"])

    def _groups(self) -> list[dict]:
        """The optimizer's groups: parameters by their peak rates; what is learned of each sense apart."""
        settings = self.settings
        peaks = {"context.": settings.context_learning_rate}
        peaks |= dict.fromkeys(self.model.pretrained, settings.pretrained_learning_rate)
        of_peak, offsets = defaultdict(list), []
        for name, parameter in self.model.named_parameters():
            if name in OFFSET_RATES:
                peak = OFFSET_RATES[name] * settings.learning_rate
                offsets.append({"params": [parameter], "peak": peak, "weight_decay": 0.0, "betas": OFFSET_BETAS})
            elif parameter.requires_grad:
                of = (peak for start, peak in peaks.items() if name.startswith(start))
                of_peak[next(of, settings.learning_rate)].append(parameter)
        return parameter_groups(list(of_peak.items()), settings.weight_decay) + offsets

    def run(self, told: threading.Event) -> None:
        """All that is left to do, or until this process is told to stop."""
        at, settings = self.at, self.settings
        if at.step == 0:
            self._record(self._look())
        self.model.train()
        progress = tqdm(desc="train", unit="step", mininterval=5, initial=at.step, disable=not self.is_main)
        while at.epoch < settings.epochs:
            planned_steps = plan_epoch(self.corpora.textual, self.corpora.visual, settings, self.seed, at.epoch)
            for planned in islice(planned_steps, at.place, None):
                last = at.step + 1 == settings.max_steps or (planned.done == 1 and at.epoch + 1 == settings.epochs)
                # Gradients of some steps are added up; the last ones too move the weights.
                moved = last or (at.step + 1) % settings.accumulate == 0
                values = self._step(planned, moved)
                at.step, at.place, at.done = at.step + 1, at.place + 1, planned.done
                if planned.done == 1:
                    at.epoch, at.place, at.done = at.epoch + 1, 0, 0.0
                if last or at.step % settings.dev_every == 0:
                    values |= self._look(last)
                self._record(values)
                progress.update()
                if last or at.looks_without_gain == settings.patience:
                    progress.close()
                    return
                stops = moved and self._any(told.is_set())
                if moved and (stops or self.saved.due):
                    self._save()
                if stops:
                    progress.close()
                    tqdm.write(f"Told to stop: the state behind step {at.step} is saved, the same command goes on.")
                    raise SystemExit(EXIT_CODE)

    def _step(self, planned: PlannedStep, move: bool) -> dict:
        """Losses and backward, then clipping, the optimizer and the momentum copies where the step is to move them.

        Returns its line of the log.
        """
        at, settings = self.at, self.settings
        progress = (at.epoch + (at.done + planned.done) / 2) / settings.epochs
        if settings.max_steps:
            progress = max(progress, (at.step + 0.5) / settings.max_steps)
        share = rate(progress, settings.rise)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        step = make_step(
            planned.parts,
            planned.phrases,
            self.corpora.textual,
            self.corpora.visual,
            self.corpora.inventory,
            pictures_per_sense=settings.pictures_per_sense,
            own_candidates=settings.own_candidates,
            captions=self.model.wants_captions,
            rng=np.random.default_rng([self.seed, at.epoch, Stream.PICTURES, at.place]),
        )
        corpora, device = self.corpora, self.model.device
        batch = make_batch(step, corpora.textual, corpora.texts, corpora.pictures, device, self.table)
        with nullcontext() if move else self.accelerator.no_sync(self.forward):
            losses = self.forward(batch)
            self.accelerator.backward(losses.total / settings.accumulate)
        if move:
            self.accelerator.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.model.follow()
            if self.averaged:
                self.averaged.update_parameters(self.model)
        return {
            "loss": losses.total.item(),
            **{f"loss_{name}": value.item() for name, value in losses._asdict().items()},
            "temperature": (1 / self.model.scale).item(),
            "learning_rate": settings.learning_rate * share,
        }

    def _look(self, last: bool = False) -> dict[str, float]:
        """The dev scores; where their mean is the best so far, the weights are kept. The sense table is refreshed.

        All of it by the moving average of the weights, where there is one. Behind the last step no word will be
        compared with the table: the glosses that the dev sets ask for are enough.
        """
        model = self.averaged.module if self.averaged else self.model
        if self.table and not last:
            self.table.refresh(model)
        found: list = [None]
        if self.is_main:
            found = [dev_scores(model, self.corpora, self.settings, None if last else self.table)]
        self._let_go()
        broadcast_object_list(found)
        score = float(np.mean(list(found[0].values())))
        if score > self.at.best:
            self.at.best, self.at.looks_without_gain = score, 0
            self.at.best_file = f"best-{self.at.step}.safetensors"
            if self.is_main:
                self.saved.save_best(model.own_state(), self.at.best_file)
        else:
            self.at.looks_without_gain += 1
        return found[0]

    def _let_go(self) -> None:
        """Features read so far count as memory no longer."""
        self.corpora.texts.let_go()
        self.corpora.pictures.let_go()

    def _any(self, told: bool) -> bool:
        """Whether any process was told to stop: they stop behind the same step, since each step needs all of them."""
        if self.accelerator.num_processes == 1:
            return told
        return bool(self.accelerator.reduce(torch.tensor(int(told), device=self.model.device)).item())

    def _record(self, values: dict) -> None:
        if self.is_main:
            self.log.write(self.at.step, values)

    def _save(self) -> None:
        self._let_go()
        if self.is_main:
            self.saved.save(
                {
                    "position": asdict(self.at),
                    "model": self.model.state_dict(),
                    "averaged": self.averaged.state_dict() if self.averaged else None,
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "table": tuple(self.table.glosses) if self.table else None,
                    "random": torch.get_rng_state(),
                    "random_gpu": torch.cuda.get_rng_state() if self.model.device.type == "cuda" else None,
                    "lines": self.log.lines,
                    "seconds": self.log.seconds,
                }
            )

    def finish(self) -> None:
        """Write the best weights and the log; the saved state is no longer needed."""
        if self.is_main:
            self.log.close()
            self.model.load_state_dict(self.saved.best(self.at.best_file), strict=False)
            self.model.write(self.folder)
            with complete_or_absent(self.folder / "metrics.jsonl") as temporary:
                shutil.copyfile(self.saved.folder / "metrics.jsonl", temporary)
            self.saved.remove()
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()


def dev_scores(
    model: PolCLIP, corpora: Corpora, settings: TrainingSettings, table: SenseTable | None
) -> dict[str, float]:
    """Textual accuracy (the mean of the dev sets) and visual HR@1 in percent, of those tasks that are trained.

    table: holds the glosses as the model is now; without it those that the dev sets ask for are run. The model is left
        in training.
    """
    model.eval()
    scores = {}
    of_sets = []
    for corpus in corpora.textual_dev:
        rows = np.array(_some(range(len(corpus)), settings.dev_instances))
        ranking = rank_words(model, corpus, corpora.inventory, rows, table)
        right = [bool({*p.candidates[:1]} & {*corpus.instances[k].gold}) for p, k in zip(ranking, rows, strict=True)]
        of_sets.append(float(np.mean(right)))
    if of_sets:
        scores["dev_textual"] = 100 * float(np.mean(of_sets))
    if corpora.visual_dev:
        ranking = rank_queries(model, corpora.visual_dev, corpora.texts, corpora.pictures)
        right = [p.candidates[0] == query.gold for p, (query, _) in zip(ranking, corpora.visual_dev, strict=True)]
        scores["dev_visual"] = 100 * float(np.mean(right))
    model.train()
    return scores
