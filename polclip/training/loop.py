"""Training PolCLIP over frozen features: a warm-up of the text heads, then the four losses together.

Run it through the workflow: `snakemake --cores 2 --configfile presets/demo.yaml
results/demo/models/main/seed-1/model.safetensors`.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from polclip.encoders.feature_store import FeatureStore
from polclip.evaluation.predict import rank_queries, rank_words
from polclip.files import complete_or_absent
from polclip.inventory import Inventory
from polclip.model.losses import contrastive_loss
from polclip.model.polclip import ModelSettings, PolCLIP, four_losses
from polclip.records import Phrase, Picture, VisualInstance, read_records
from polclip.training.alignment import read_heads
from polclip.training.batches import SenseCorpus, make_step, represent_glosses, shuffled
from polclip.training.corpora import TextualCorpus, gloss_ids, read_queries


@dataclass(frozen=True)
class TrainingSettings:
    """Batches, rates and lengths of training."""

    warm_up_epochs: int  # passes over the textual corpus that train the text heads alone
    warm_up_batch: int
    warm_up_learning_rate: float
    steps: int  # of all four losses together
    words: int  # textual instances a step
    senses: int  # senses with pictures a step
    pictures_per_sense: int
    own_candidates: bool  # a word is compared with its own candidate senses alone, not with all of the batch
    learning_rate: float  # of generators and fusion
    head_learning_rate: float
    weight_decay: float
    clip_norm: float
    evaluate_every: int  # steps between two looks at the dev sets
    dev_instances: int  # at most so many of each dev set are looked at


@dataclass(frozen=True)
class TrainingInputs:
    """Files and stores that training reads; `visual` parts are empty for a model trained on text alone."""

    inventory: Inventory
    texts: FeatureStore
    pictures: FeatureStore | None
    towers: Path  # folder written by align_towers
    textual_train: list[Path]
    textual_dev: list[Path]
    phrases: Path | None
    training_pictures: Path | None
    visual_dev: list[Path]


def train(folder: str | Path, inputs: TrainingInputs, model_settings: ModelSettings, settings: TrainingSettings, seed: int) -> None:
    """Train one model and write `model.safetensors`, `config.json` and `metrics.jsonl` into `folder`.

    The weights that do best on the dev sets (mean of textual accuracy and visual HR@1) are kept. The same seed on
    the same machine with the same number of threads gives the same weights.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    towers, heads = read_heads(inputs.towers)
    model = PolCLIP(towers, model_settings)
    model.heads.load_state_dict(heads)
    model.restart_momentum()
    textual = TextualCorpus.read(inputs.textual_train, inputs.inventory, inputs.texts)
    visual = None
    if inputs.phrases and model_settings.pictures:
        pictures = [p for p in read_records(inputs.training_pictures, Picture) if p.picture_id in inputs.pictures]
        visual = SenseCorpus(list(read_records(inputs.phrases, Phrase)), pictures)
    dev = _Dev(inputs, settings)
    with complete_or_absent(Path(folder) / "metrics.jsonl") as temporary, open(temporary, "w") as metrics:
        log = _Log(metrics)
        _warm_up(model, textual, inputs, settings, rng, log)
        best = dev.score(model, log)
        kept = _copy(model)
        for _ in _joint_steps(model, textual, visual, inputs, settings, rng, log):
            score = dev.score(model, log)
            if score > best:
                best, kept = score, _copy(model)
        model.load_state_dict(kept)
        model.save_pretrained(folder)


def _copy(model: PolCLIP) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


class _Log:
    """`metrics.jsonl`: a line a step; what the dev sets say goes with the last step before it."""

    def __init__(self, file) -> None:
        self.file, self.step, self.started, self.line = file, 0, time.monotonic(), None

    def add(self, **values: float | str) -> None:
        self.flush()
        self.step += 1
        self.line = {"step": self.step, "seconds": round(time.monotonic() - self.started, 3), **values}

    def also(self, **values: float) -> None:
        self.line = {**(self.line or {"step": self.step, "seconds": 0.0}), **values}
        self.flush()

    def flush(self) -> None:
        if self.line is not None:
            self.file.write(json.dumps(self.line) + "\n")
            self.file.flush()
            self.line = None


class _Dev:
    """The dev sets, of which at most `dev_instances` each are looked at."""

    def __init__(self, inputs: TrainingInputs, settings: TrainingSettings) -> None:
        self.inputs = inputs
        self.textual = TextualCorpus.read(inputs.textual_dev, inputs.inventory, inputs.texts)
        self.rows = np.linspace(0, len(self.textual) - 1, min(len(self.textual), settings.dev_instances)).astype(int)
        self.queries: list[tuple[VisualInstance, str]] = []
        for path in inputs.visual_dev:
            queries = read_queries([path], {})
            chosen = np.linspace(0, len(queries) - 1, min(len(queries), settings.dev_instances)).astype(int)
            self.queries += [queries[k] for k in chosen]

    def score(self, model: PolCLIP, log: _Log) -> float:
        """Mean of textual accuracy and visual HR@1 (percent), over those tasks that have a dev set."""
        model.eval()
        scores = {}
        ranked = rank_words(model, self.textual, self.inputs.inventory, self.inputs.texts, self.rows)
        right = [
            p.candidates[0] in self.textual.instances[k].gold for p, k in zip(ranked, self.rows, strict=True)
        ]
        scores["dev_textual"] = 100 * float(np.mean(right))
        if self.queries:
            ranked = rank_queries(model, self.queries, self.inputs.texts, self.inputs.pictures)
            right = [p.candidates[0] == q.gold for p, (q, _) in zip(ranked, self.queries, strict=True)]
            scores["dev_visual"] = 100 * float(np.mean(right))
        log.also(**scores)
        model.train()
        return float(np.mean(list(scores.values())))


def _groups(parameters: dict[float, list[tuple[str, torch.nn.Parameter]]], decay: float) -> list[dict]:
    """Optimizer groups by peak rate; norms, biases and scalars are not decayed."""
    groups = []
    for peak, named in parameters.items():
        for decayed in (True, False):
            chosen = [p for _, p in named if (p.ndim > 1) == decayed]
            if chosen:
                groups.append({"params": chosen, "peak": peak, "weight_decay": decay if decayed else 0.0})
    return groups


def _rate(progress: float, warm_up: float = 0.1) -> float:
    """Share of the peak rate: a linear rise, then a cosine to zero."""
    if progress < warm_up:
        return progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def _update(optimizer: torch.optim.Optimizer, loss: torch.Tensor, progress: float, clip_norm: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * _rate(progress)
    optimizer.zero_grad()
    loss.backward()
    for group in optimizer.param_groups:
        torch.nn.utils.clip_grad_norm_(group["params"], clip_norm)
    optimizer.step()


def _warm_up(
    model: PolCLIP,
    textual: TextualCorpus,
    inputs: TrainingInputs,
    settings: TrainingSettings,
    rng: np.random.Generator,
    log: _Log,
) -> None:
    """Train the word head on pooled states, each word against its own candidates: cheap, so many passes fit."""
    if model.word is None or settings.warm_up_epochs == 0:
        return
    gloss = torch.from_numpy(inputs.texts.pooled(gloss_ids(inputs.inventory, textual.synsets)))
    named = [(n, p) for n, p in model.named_parameters() if n.startswith("word.")]
    optimizer = torch.optim.AdamW(_groups({settings.warm_up_learning_rate: named}, settings.weight_decay))
    steps = settings.warm_up_epochs * (len(textual) // settings.warm_up_batch)
    batches = shuffled(len(textual), settings.warm_up_batch, rng)
    model.train()
    with torch.no_grad():
        model.heads.eval()
        glosses = model.heads.text(gloss)
        model.heads.train()
    for step in tqdm(range(steps), desc="warm up", unit="step", mininterval=5):
        rows = next(batches)
        used, inverse = np.unique(np.concatenate([textual.candidates[k] for k in rows]), return_inverse=True)
        lengths = [len(textual.candidates[k]) for k in rows]
        row_of = np.repeat(np.arange(len(rows)), lengths)
        allowed = torch.zeros(len(rows), len(used), dtype=torch.bool)
        positive = torch.zeros(len(rows), len(used), dtype=torch.bool)
        allowed[row_of, inverse] = True
        positive[row_of, inverse] = torch.from_numpy(np.concatenate([textual.gold[k] for k in rows]))
        words = model.word_in_context(textual.target[rows], textual.sentence[rows])
        loss = contrastive_loss(words @ glosses[used].T, positive, model.scale, allowed)
        _update(optimizer, loss, (step + 0.5) / steps, settings.clip_norm)
        log.add(stage="warm_up", loss=loss.item(), loss_w2s=loss.item(), temperature=float(1 / model.scale))


def _joint_steps(
    model: PolCLIP,
    textual: TextualCorpus,
    visual: SenseCorpus | None,
    inputs: TrainingInputs,
    settings: TrainingSettings,
    rng: np.random.Generator,
    log: _Log,
) -> Iterator[None]:
    """Train all parts by the four losses; stops at each step after which the dev sets are to be looked at."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    heads = [(n, p) for n, p in named if n.startswith(("heads.", "word."))]
    others = [(n, p) for n, p in named if not n.startswith(("heads.", "word."))]
    optimizer = torch.optim.AdamW(
        _groups({settings.head_learning_rate: heads, settings.learning_rate: others}, settings.weight_decay)
    )
    words = shuffled(len(textual), settings.words, rng)
    senses = shuffled(len(visual), settings.senses, rng) if visual else None
    model.train()
    for step in tqdm(range(settings.steps), desc="train", unit="step", mininterval=5):
        batch = make_step(
            next(words),
            [visual.synsets[k] for k in next(senses)] if visual else [],
            textual,
            visual,
            inputs.inventory,
            inputs.texts,
            inputs.pictures,
            settings.pictures_per_sense,
            settings.own_candidates,
            rng,
        )
        in_context = model.word_in_context(textual.target[batch.words], textual.sentence[batch.words])
        contexts = torch.cat([in_context, model.phrase(batch.phrases)])
        gloss = represent_glosses(model, inputs.texts, batch.gloss_ids)
        pooled = torch.from_numpy(inputs.texts.pooled(batch.gloss_ids))
        losses = four_losses(model, contexts, gloss, pooled, batch.images, batch.labels)
        _update(optimizer, losses.total, (step + 0.5) / settings.steps, settings.clip_norm)
        model.follow()
        log.add(
            stage="joint",
            loss=losses.total.item(),
            **{f"loss_{name}": value.item() for name, value in losses._asdict().items()},
            temperature=float(1 / model.scale),
            learning_rate=optimizer.param_groups[-1]["lr"],
        )
        if (step + 1) % settings.evaluate_every == 0 or step + 1 == settings.steps:
            yield
    log.flush()
