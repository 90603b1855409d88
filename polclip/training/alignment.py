"""Aligning two unimodal towers: heads trained by plain contrastive learning into the stand-in for a CLIP.

PolCLIP's four losses hold no plain term between pictures and glosses: the paper starts from CLIP, which has one
behind it.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from polclip.corpora.texts import captions_of, gloss_text, text_id
from polclip.encoders.feature_store import FeatureStore
from polclip.errors import UserError
from polclip.files import complete_or_absent, write_json, write_json_lines
from polclip.inventory import Inventory
from polclip.model.losses import contrastive_loss, same_id
from polclip.model.pair_polclip import Heads, TowerSettings
from polclip.records import Phrase, Picture, read_records
from polclip.settings import benchmark_of
from polclip.training.corpora import TextualCorpus, read_queries
from polclip.training.settings import AlignmentSettings
from polclip.training.word_head import train_word_head


class PictureFeatures:
    """All pictures of a list of ids as tensors: `pooled` [P, w] and `classes` [P, c]."""

    def __init__(self, pictures: FeatureStore, ids: list[str]) -> None:
        self.ids = ids
        self.place = {picture_id: k for k, picture_id in enumerate(ids)}
        self.pooled = torch.from_numpy(pictures.pooled(ids))
        self.classes = torch.from_numpy(pictures.class_probabilities(ids))


def class_embeddings(inventory: Inventory, texts: FeatureStore, classes: list[str]) -> Tensor:
    """The text tower's unit vectors of the image classes' glosses [classes, w], the concepts of ConSE."""
    ids = [text_id(gloss_text(inventory.synset(synset_id))) for synset_id in classes]
    return torch.nn.functional.normalize(torch.from_numpy(texts.pooled(ids)), dim=-1)


class QueryRanking:
    """A visual dev set ready to be ranked by the heads alone."""

    def __init__(
        self, paths: list[str | Path], texts: FeatureStore, pictures: FeatureStore, forms: Sequence[str]
    ) -> None:
        # A picture that could not be read has no features: its queries are left out here.
        queries = [item for item in read_queries(paths, {}, forms) if all(p in pictures for p in item[0].candidates)]
        if not queries:
            raise UserError(f"No visual query with all its pictures in {', '.join(map(str, paths))}.")
        ids = list(dict.fromkeys(p for query, _ in queries for p in query.candidates))
        self.features = PictureFeatures(pictures, ids)
        self.forms = len(forms)
        self.text = torch.from_numpy(texts.pooled([text for _, of_query in queries for text in of_query]))
        self.rows = torch.tensor([[self.features.place[p] for p in query.candidates] for query, _ in queries])
        self.gold = torch.tensor([query.candidates.index(query.gold) for query, _ in queries])

    @torch.inference_mode()
    def hit_rate(self, heads: Heads) -> float:
        """HR@1 in percent."""
        image = heads.image(self.features.pooled, self.features.classes)
        asked = heads.text(self.text).view(len(self.rows), self.forms, -1).mean(1)
        scores = torch.einsum("qd,qcd->qc", asked, image[self.rows])
        return 100 * float((scores.argmax(1) == self.gold).float().mean())


def _schedule(step: int, steps: int, warm_up: float = 0.3) -> float:
    """One cycle: a cosine up over the first part of training, a cosine down to zero over the rest."""
    progress = (step + 0.5) / steps
    if progress < warm_up:
        return 0.5 * (1 - np.cos(np.pi * progress / warm_up))
    return 0.5 * (1 + np.cos(np.pi * (progress - warm_up) / (1 - warm_up)))


def align(
    folder: str | Path,
    inventory: Inventory,
    texts: FeatureStore,
    pictures: FeatureStore,
    classes: list[str],
    phrases_paths: Sequence[str | Path],
    pictures_paths: Sequence[str | Path],
    dev_paths: Sequence[str | Path],
    forms: Sequence[str],
    textual_train: Sequence[str | Path],
    context_words: int,
    settings: AlignmentSettings,
    seed: int,
) -> None:
    """Train the heads and write `heads.safetensors`, `config.json`, `metrics.jsonl` into `folder`.

    Pictures are matched with texts of their sense (gloss, lemmas, phrases, captions; one drawn at random a step);
    all pictures and texts of one sense in a batch are positives of each other. The epoch that ranks best on the
    visual dev sets is kept. Then the word head is trained on the textual corpus.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    training = [p for path in pictures_paths for p in read_records(path, Picture) if p.picture_id in pictures]
    names: dict[str, list[str]] = {}
    for phrase in (phrase for path in phrases_paths for phrase in read_records(path, Phrase)):
        names.setdefault(phrase.synset_id, []).append(phrase.phrase)
    training = [picture for picture in training if picture.synset_id in names]
    if not training:
        raise UserError(f"No training picture with features in {', '.join(map(str, pictures_paths)) or 'no corpus'}.")
    synset_ids = sorted(names)
    captions = [[text_id(t) for t in captions_of(inventory.synset(s), inventory, names[s])] for s in synset_ids]
    place = {synset_id: k for k, synset_id in enumerate(synset_ids)}
    starts = np.cumsum([0, *map(len, captions)])
    text = torch.from_numpy(texts.pooled([c for of_synset in captions for c in of_synset]))
    glosses = torch.from_numpy(texts.pooled([text_id(gloss_text(inventory.synset(s))) for s in synset_ids]))
    features = PictureFeatures(pictures, [picture.picture_id for picture in training])
    sense = np.array([place[picture.synset_id] for picture in training])

    towers = TowerSettings(
        text_width=text.shape[1],
        image_width=features.pooled.shape[1],
        embed=text.shape[1],
        classes=len(classes),
        hidden=settings.hidden,
        channel_dropout=settings.channel_dropout,
        dropout=settings.dropout,
        members=settings.members,
        senses=len(synset_ids),
        sense_weight=settings.sense_weight,
    )
    heads = Heads(towers)
    heads.image.class_embeddings.copy_(class_embeddings(inventory, texts, classes))
    log_scale = torch.nn.Parameter(torch.tensor(1 / settings.temperature).log())
    optimizer = torch.optim.AdamW(
        [
            {"params": heads.text.parameters(), "peak": settings.text_learning_rate},
            {"params": [*heads.image.parameters(), log_scale], "peak": settings.learning_rate},
        ],
        weight_decay=settings.weight_decay,
    )
    if not dev_paths:
        raise UserError(
            "The towers of a pair are aligned on visual queries: name at least one set in corpora.visual.dev."
        )
    dev = {benchmark_of(f"{Path(path).parent.name}/{Path(path).stem}"): path for path in dev_paths}
    rankings = {name: QueryRanking([path], texts, pictures, forms) for name, path in dev.items()}

    started, lines, best, kept = time.monotonic(), [], -1.0, {}
    batches = max(1, len(training) // settings.batch)
    steps = settings.epochs * batches
    progress = tqdm(total=steps, desc="align towers", unit="step", mininterval=5)
    for epoch in range(settings.epochs):
        heads.train()
        losses = []
        for step, rows in enumerate(np.array_split(rng.permutation(len(training)), batches)):
            here = sense[rows]
            drawn = [rng.integers(starts[k], starts[k + 1]) for k in here]
            caption = heads.text(text[drawn])
            same = same_id([synset_ids[k] for k in here], [synset_ids[k] for k in here])
            scale = log_scale.exp().clamp(max=100)
            loss = torch.zeros(())
            for image in heads.image.each(features.pooled[rows], features.classes[rows]):
                similarity = caption @ image.T
                loss += contrastive_loss(similarity, same, scale) + contrastive_loss(similarity.T, same, scale)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * _schedule(epoch * batches + step, steps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item() / (2 * settings.members))
            progress.update()
        heads.eval()
        with torch.inference_mode():
            heads.image.sense_embeddings.copy_(heads.text(glosses))
        rates = {name: ranking.hit_rate(heads) for name, ranking in rankings.items()}
        dev_visual = float(np.mean(list(rates.values())))
        lines.append(
            {
                "epoch": epoch + 1,
                "seconds": round(time.monotonic() - started, 2),
                "loss": float(np.mean(losses)),
                "temperature": (1 / log_scale.exp()).item(),
                "dev_visual": dev_visual,
                **rates,
            }
        )
        if dev_visual > best:
            best = dev_visual
            kept = {name: tensor.clone() for name, tensor in heads.state_dict().items()}
    progress.close()
    heads.load_state_dict(kept)
    word_losses = []
    if settings.word_epochs:
        corpus = TextualCorpus.read(textual_train, inventory, texts, context_words=context_words)
        word_losses = train_word_head(heads, corpus, inventory, settings, rng)
    lines += [{"word_epoch": epoch, "word_loss": loss} for epoch, loss in enumerate(word_losses, start=1)]
    save_heads(folder, heads, towers, lines)


def save_heads(folder: str | Path, heads: Heads, towers: TowerSettings, lines: list[dict]) -> None:
    """Write the three files of an alignment folder."""
    with complete_or_absent(Path(folder) / "heads.safetensors") as temporary:
        save_file({name: t.contiguous() for name, t in heads.state_dict().items()}, temporary)
        temporary.chmod(0o644)  # safetensors makes files that only their owner can read
    write_json_lines(Path(folder) / "metrics.jsonl", lines)
    write_json(Path(folder) / "config.json", {"towers": asdict(towers)})


def read_heads(folder: str | Path) -> tuple[TowerSettings, dict[str, Tensor]]:
    """What an alignment folder holds: the towers' description and the heads' weights; UserError where it is broken."""
    try:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        return TowerSettings(**config["towers"]), load_file(Path(folder) / "heads.safetensors")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(
            f"{folder} does not hold aligned heads ({error!r}). Delete the folder and run the same command again."
        ) from error
