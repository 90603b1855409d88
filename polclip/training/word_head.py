"""Training the head over a target word and its sentence, once a seed: every experiment over a pair starts from it."""

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from polclip.inventory import Inventory
from polclip.model.losses import contrastive_loss
from polclip.model.pair_polclip import Heads
from polclip.training.corpora import TextualCorpus, gloss_ids
from polclip.training.schedule import parameter_groups, rate
from polclip.training.settings import AlignmentSettings


def train_word_head(
    heads: Heads, corpus: TextualCorpus, inventory: Inventory, settings: AlignmentSettings, rng: np.random.Generator
) -> list[float]:
    """Each word against its own candidates' glosses, on pooled states: cheap, so many passes fit.

    Returns the mean loss of each epoch. The other heads stay as they are.
    """
    heads.eval()
    with torch.no_grad():
        pooled = torch.from_numpy(corpus.texts.pooled(gloss_ids(inventory, corpus.synsets)))
        glosses = heads.text(pooled)
    heads.train()
    groups = parameter_groups([(settings.word_learning_rate, list(heads.word.parameters()))], settings.weight_decay)
    optimizer = torch.optim.AdamW(groups)
    batches = -(-len(corpus) // settings.word_batch)
    steps = settings.word_epochs * batches
    progress = tqdm(total=steps, desc="word head", unit="step", mininterval=5)
    means = []
    for epoch in range(settings.word_epochs):
        losses = []
        for number, rows in enumerate(np.array_split(rng.permutation(len(corpus)), batches)):
            loss = _loss(heads, corpus, rows, glosses, 1 / settings.temperature)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate((epoch * batches + number + 0.5) / steps, 0.1)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(heads.word.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            progress.update()
        means.append(float(np.mean(losses)))
    progress.close()
    heads.eval()
    return means


def _loss(heads: Heads, corpus: TextualCorpus, rows: np.ndarray, glosses: Tensor, scale: float) -> Tensor:
    used, column = np.unique(np.concatenate([corpus.candidates[k] for k in rows]), return_inverse=True)
    row = np.repeat(np.arange(len(rows)), [len(corpus.candidates[k]) for k in rows])
    allowed = torch.zeros(len(rows), len(used), dtype=torch.bool)
    positive = torch.zeros(len(rows), len(used), dtype=torch.bool)
    allowed[row, column] = True
    positive[row, column] = torch.from_numpy(np.concatenate([corpus.gold[k] for k in rows]))
    similarity = heads.word_in_context(*corpus.words(rows, "cpu")[:2]) @ glosses[used].T
    return contrastive_loss(similarity, positive, scale, allowed)
