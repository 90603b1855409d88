"""Predictions of a trained model: candidates with their scores, best first (MODEL.md step 10)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from polclip.corpora.texts import Definitions
from polclip.encoders.feature_store import FeatureStore
from polclip.errors import UserError
from polclip.evaluation.prediction_files import LOWEST
from polclip.files import write_json_lines
from polclip.inventory import Inventory
from polclip.model.blocks import unit
from polclip.model.polclip import PolCLIP, read_model
from polclip.records import Prediction, VisualInstance
from polclip.training.chunks import represent_glosses, words_in_chunks
from polclip.training.corpora import TextualCorpus, gloss_ids, read_queries, tokens_of, whole_texts
from polclip.training.sense_table import SenseTable

AT_ONCE = 64


def ranked(instance_id: str, candidates: Sequence[str], scores: Sequence[float]) -> Prediction:
    """Candidates by falling score; equal scores keep the order of the candidates."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    return Prediction(instance_id, [candidates[k] for k in order], [float(scores[k]) for k in order])


@torch.inference_mode()
def rank_words(
    model: PolCLIP,
    corpus: TextualCorpus,
    inventory: Inventory,
    rows: np.ndarray | None = None,
    table: SenseTable | None = None,
) -> list[Prediction]:
    """Rank the candidate senses of textual instances by e_w . (g + m_g), or by what the model made of these vectors.

    Scores are logits: divided by the temperature, so that their softmax over the candidates are the model's
    probabilities. Each distinct gloss is run once, or none where a table has their vectors; texts of one length are run
    together.
    """
    rows = np.arange(len(corpus)) if rows is None else rows
    used = np.unique(np.concatenate([corpus.candidates[k] for k in rows]))
    place = np.full(len(corpus.synsets), -1)
    place[used] = np.arange(len(used))
    synset_ids = [corpus.synsets[k] for k in used]
    if table is None:
        glosses = represent_glosses(model, corpus.texts, gloss_ids(inventory, synset_ids)).vectors
    else:
        glosses = table.of(synset_ids).to(model.device)
    senses = model.scale * model.senses(glosses, [inventory.lineage(s) for s in synset_ids])
    read = words_in_chunks(corpus, rows.tolist(), model.device)
    words = torch.cat([model.word_in_context(*part) for part in read.parts])[read.order]
    predictions = []
    for word, k in zip(words, rows, strict=True):
        scores = (senses[place[corpus.candidates[k]]] @ word).cpu().numpy()
        predictions.append(ranked(corpus.instances[k].instance_id, corpus.instances[k].candidates, scores))
    return predictions


@torch.inference_mode()
def rank_queries(
    model: PolCLIP, queries: list[tuple[VisualInstance, list[str]]], texts: FeatureStore, pictures: FeatureStore
) -> list[Prediction]:
    """Rank the pictures of visual instances by t . (i + m_i), t the mean of a query's texts; a picture is run once.

    A candidate without features (missing or broken picture) is ranked last, with the score LOWEST.
    """
    ids = sorted({p for query, _ in queries for p in query.candidates if p in pictures})
    if not ids:
        raise UserError(f"None of the pictures of {len(queries)} visual queries has features: check corpora.visual.")
    place = {picture_id: k for k, picture_id in enumerate(ids)}
    images = torch.cat(
        [
            model.image(tokens_of(pictures, ids[k : k + AT_ONCE], model.device)).matched
            for k in range(0, len(ids), AT_ONCE)
        ]
    )
    asked = [text for _, of_query in queries for text in of_query]
    each = torch.cat(
        [
            model.phrase(whole_texts(texts, asked[start : start + AT_ONCE], model.device))
            for start in range(0, len(asked), AT_ONCE)
        ]
    )
    phrases = unit(each.view(len(queries), -1, each.shape[1]).mean(1))
    predictions = []
    for phrase, (query, _) in zip(phrases, queries, strict=True):
        cosines = (images @ phrase).cpu().numpy()
        scores = [cosines[place[p]] if p in place else LOWEST for p in query.candidates]
        predictions.append(ranked(query.instance_id, query.candidates, scores))
    return predictions


def predict(
    model: str | Path,
    inventory: Inventory,
    texts: FeatureStore,
    pictures: FeatureStore,
    *,
    tasks: Sequence[str],
    instances: Sequence[str | Path],
    predictions: Sequence[str | Path],
    definitions: Definitions,
    forms: Sequence[str],
    device: str,
    context_words: int = 0,
) -> None:
    """Write the predictions of a model folder for several benchmarks, a JSON Lines file each.

    Args:
        tasks: textual or visual, by benchmark.
        instances, predictions: Parquet files read and JSON Lines files written, in the same order.
        definitions: of those files of instances that have some.
        forms: of the visual instances' texts, see `query_texts`.
        context_words: of the windows that words are read in, see `in_windows`.
    """
    loaded = read_model(model).to(device)
    for task, source, target in zip(tasks, instances, predictions, strict=True):
        if task == "textual":
            corpus = TextualCorpus.read([source], inventory, texts, definitions, context_words, loaded.reads_tokens)
            ranking = rank_words(loaded, corpus, inventory)
        else:
            ranking = rank_queries(loaded, read_queries([source], definitions, forms), texts, pictures)
        write_json_lines(target, map(vars, ranking))
