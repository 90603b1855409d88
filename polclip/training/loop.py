"""Training PolCLIP over frozen features: a warm-up of the word head, then the four losses together.

Run it through the workflow: `snakemake --cores 2 --configfile presets/demo.yaml
results/demo/models/main/seed-42/model.safetensors`.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from tqdm import tqdm

from polclip.corpora.texts import read_definitions
from polclip.encoders.feature_store import FeatureStore
from polclip.errors import UserError
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

    tasks: Sequence[str]  # textual and visual, or one of them for an ablation
    warm_up_epochs: int  # passes over the textual corpus that train the word head alone
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
    dev_every: int  # steps between two looks at the dev sets
    dev_instances: int  # at most so many of each dev set are looked at


@dataclass(frozen=True)
class Corpora:
    """What training reads: the textual instances, the senses with pictures (None: text alone), and the dev sets."""

    inventory: Inventory
    texts: FeatureStore
    pictures: FeatureStore
    textual: TextualCorpus
    visual: SenseCorpus | None
    textual_dev: TextualCorpus
    visual_dev: list[tuple[VisualInstance, list[str]]]


def train(
    folder: str | Path,
    inventory: Inventory,
    texts: FeatureStore,
    pictures: FeatureStore,
    *,
    towers: str | Path,
    textual_train: Sequence[str | Path],
    textual_dev: Sequence[str | Path],
    pictures_train: Sequence[str | Path],
    phrases: Sequence[str | Path],
    visual_dev: Sequence[str | Path],
    definitions: Sequence[str | Path],
    forms: Sequence[str],
    model: ModelSettings,
    settings: TrainingSettings,
    seed: int,
    device: str,
) -> None:
    """Train one model and write `model.safetensors`, `config.json` and `metrics.jsonl` into `folder`.

    The weights that do best on the dev sets (mean of textual accuracy and visual HR@1) are kept. The same seed on
    the same machine with the same number of threads gives the same weights on CPU.

    Args:
        towers: folder written by `align_towers`, where the heads start from.
        textual_train, textual_dev, visual_dev: Parquet files of instances.
        pictures_train, phrases: Parquet files of Picture and Phrase, the senses that pictures show.
        definitions: of the visual dev queries.
        forms: of their texts, see `query_texts`.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    described, heads = read_heads(towers)
    polclip = PolCLIP(described, model)
    polclip.heads.load_state_dict(heads)
    polclip.restart_momentum()
    polclip.to(device)
    known = read_definitions(definitions)
    corpora = Corpora(
        inventory,
        texts,
        pictures,
        TextualCorpus.read(textual_train, inventory, texts),
        _senses(phrases, pictures_train, pictures) if "visual" in settings.tasks else None,
        TextualCorpus.read(textual_dev, inventory, texts),
        [q for path in visual_dev for q in _some(read_queries([path], known, forms), settings.dev_instances)],
    )
    with (
        complete_or_absent(Path(folder) / "metrics.jsonl") as temporary,
        open(temporary, "w", encoding="utf-8") as file,
    ):
        log = _Log(file)
        best, kept = -1.0, {}
        for _ in _training(polclip, corpora, settings, rng, log):
            score = _dev_score(polclip, corpora, settings, log)
            if score > best:
                best, kept = score, {name: t.clone() for name, t in polclip.state_dict().items()}
        polclip.load_state_dict(kept)
        polclip.save_pretrained(folder)


def _senses(phrases: Sequence[str | Path], pictures: Sequence[str | Path], stored: FeatureStore) -> SenseCorpus:
    senses = SenseCorpus(
        [phrase for path in phrases for phrase in read_records(path, Phrase)],
        [p for path in pictures for p in read_records(path, Picture) if p.picture_id in stored],
    )
    if not len(senses):
        raise UserError(
            f"No sense has both a phrase and a picture with features in {', '.join(map(str, [*phrases, *pictures]))}: "
            "check corpora.visual.train, or set training.tasks: [textual]."
        )
    return senses


def _some(items: list, most: int) -> list:
    """At most so many items, evenly spread."""
    return [items[k] for k in np.linspace(0, len(items) - 1, min(len(items), most)).astype(int)]


class _Log:
    """`metrics.jsonl`: a line a step; what the dev sets say stands with the last step before it."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.step, self.started = file, 0, time.monotonic()
        self.line: dict[str, float | str] = {}

    def add(self, **values: float | str) -> None:
        self.write()
        self.step += 1
        self.line = {"step": self.step, "seconds": round(time.monotonic() - self.started, 3), **values}

    def write(self, **more: float) -> None:
        if self.line:
            self.file.write(json.dumps({**self.line, **more}) + "\n")
            self.file.flush()
            self.line = {}


def _dev_score(model: PolCLIP, corpora: Corpora, settings: TrainingSettings, log: _Log) -> float:
    """Mean of textual accuracy and visual HR@1 in percent, over those tasks that are trained."""
    model.eval()
    scores = {}
    if "textual" in settings.tasks:
        corpus = corpora.textual_dev
        rows = np.array(_some(list(range(len(corpus))), settings.dev_instances))
        ranking = rank_words(model, corpus, corpora.inventory, corpora.texts, rows)
        right = [bool({*p.candidates[:1]} & {*corpus.instances[k].gold}) for p, k in zip(ranking, rows, strict=True)]
        scores["dev_textual"] = 100 * float(np.mean(right))
    if "visual" in settings.tasks:
        ranking = rank_queries(model, corpora.visual_dev, corpora.texts, corpora.pictures)
        right = [p.candidates[0] == query.gold for p, (query, _) in zip(ranking, corpora.visual_dev, strict=True)]
        scores["dev_visual"] = 100 * float(np.mean(right))
    log.write(**scores)
    model.train()
    return float(np.mean(list(scores.values())))


def _training(
    model: PolCLIP, corpora: Corpora, settings: TrainingSettings, rng: np.random.Generator, log: _Log
) -> Iterator[None]:
    """All of training; stops after each step behind which the dev sets are to be looked at."""
    model.train()
    if model.word is not None and settings.warm_up_epochs and "textual" in settings.tasks:
        _warm_up(model, corpora, settings, rng, log)
        yield
    yield from _joint(model, corpora, settings, rng, log)


def _groups(parameters: Sequence[tuple[float, list[torch.nn.Parameter]]], decay: float) -> list[dict]:
    """Optimizer groups by peak rate; norms, biases and scalars are not decayed."""
    groups = []
    for peak, of_peak in parameters:
        for decayed in (True, False):
            chosen = [p for p in of_peak if (p.ndim > 1) == decayed]
            if chosen:
                groups.append({"params": chosen, "peak": peak, "weight_decay": decay if decayed else 0.0})
    return groups


def _rate(progress: float, rise: float = 0.1) -> float:
    """Share of the peak rate: a linear rise, then a cosine to zero at the very end."""
    if progress < rise:
        return progress / rise
    return 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))


def _update(optimizer: torch.optim.Optimizer, loss: torch.Tensor, progress: float, clip_norm: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * _rate(progress)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip_norm)
    optimizer.step()


def _warm_up(model: PolCLIP, corpora: Corpora, settings: TrainingSettings, rng: np.random.Generator, log: _Log) -> None:
    """Train the word head on pooled states, each word against its own candidates: cheap, so many passes fit."""
    textual, device = corpora.textual, model.device
    with torch.no_grad():
        pooled = torch.from_numpy(corpora.texts.pooled(gloss_ids(corpora.inventory, textual.synsets)))
        model.heads.eval()
        glosses = model.heads.text(pooled.to(device))
        model.heads.train()
    optimizer = torch.optim.AdamW(
        _groups([(settings.warm_up_learning_rate, list(model.word.parameters()))], settings.weight_decay)
    )
    batch = min(settings.warm_up_batch, len(textual))
    steps = settings.warm_up_epochs * (len(textual) // batch)
    batches = shuffled(len(textual), batch, rng)
    for step in tqdm(range(steps), desc="warm up", unit="step", mininterval=5):
        rows = next(batches)
        used, place = np.unique(np.concatenate([textual.candidates[k] for k in rows]), return_inverse=True)
        row_of = np.repeat(np.arange(batch), [len(textual.candidates[k]) for k in rows])
        allowed = torch.zeros(batch, len(used), dtype=torch.bool)
        positive = torch.zeros(batch, len(used), dtype=torch.bool)
        allowed[row_of, place] = True
        positive[row_of, place] = torch.from_numpy(np.concatenate([textual.gold[k] for k in rows]))
        similarity = model.word_in_context(*textual.rows(rows, device)) @ glosses[used].T
        loss = contrastive_loss(similarity, positive.to(device), model.scale, allowed.to(device))
        _update(optimizer, loss, (step + 0.5) / steps, settings.clip_norm)
        log.add(stage="warm_up", loss=loss.item(), loss_w2s=loss.item(), temperature=(1 / model.scale).item())


def _joint(
    model: PolCLIP, corpora: Corpora, settings: TrainingSettings, rng: np.random.Generator, log: _Log
) -> Iterator[None]:
    """Train all parts by the four losses."""
    is_head = {id(p) for name, p in model.named_parameters() if name.startswith(("heads.", "word."))}
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        _groups(
            [
                (settings.head_learning_rate, [p for p in trained if id(p) in is_head]),
                (settings.learning_rate, [p for p in trained if id(p) not in is_head]),
            ],
            settings.weight_decay,
        )
    )
    textual, visual = corpora.textual, corpora.visual
    count = settings.words if "textual" in settings.tasks else 0
    words = shuffled(len(textual), count, rng)
    senses = shuffled(len(visual), min(settings.senses, len(visual)), rng) if visual else None
    for step in tqdm(range(settings.steps), desc="train", unit="step", mininterval=5):
        batch = make_step(
            next(words),
            [visual.synsets[k] for k in next(senses)] if visual else [],
            textual,
            visual,
            corpora.inventory,
            corpora.texts,
            corpora.pictures,
            settings.pictures_per_sense,
            settings.own_candidates,
            rng,
            model.device,
        )
        in_context = model.word_in_context(*textual.rows(batch.words, model.device))
        contexts = torch.cat([in_context, model.phrase(batch.phrases)])
        gloss = represent_glosses(model, corpora.texts, batch.gloss_ids)
        pooled = torch.from_numpy(corpora.texts.pooled(batch.gloss_ids)).to(model.device)
        losses = four_losses(model, contexts, gloss, pooled, batch.images, batch.labels)
        _update(optimizer, losses.total, (step + 0.5) / settings.steps, settings.clip_norm)
        model.follow()
        log.add(
            stage="joint",
            loss=losses.total.item(),
            **{f"loss_{name}": value.item() for name, value in losses._asdict().items()},
            temperature=(1 / model.scale).item(),
            learning_rate=optimizer.param_groups[-1]["lr"],
        )
        if (step + 1) % settings.dev_every == 0 or step + 1 == settings.steps:
            yield
