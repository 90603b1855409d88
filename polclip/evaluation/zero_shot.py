"""Zero-shot: the towers as they come, without any training by this project.

A pair: texts by the cosine of their pooled states; pictures by ConSE (Norouzi et al. 2014), the class embeddings
averaged by the image classifier's probabilities. A CLIP: its own embeddings.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from polclip.corpora.texts import Definitions, class_synsets
from polclip.encoders.feature_store import FeatureStore
from polclip.evaluation.predict import ranked
from polclip.evaluation.prediction_files import LOWEST
from polclip.inventory import Inventory
from polclip.model.blocks import unit
from polclip.records import Prediction
from polclip.training.alignment import class_embeddings
from polclip.training.corpora import TextualCorpus, gloss_ids, read_queries


class ZeroShot:
    """Texts and pictures in one space, without training.

    Args:
        classes: archive that names the classes of a pair's image tower; None for a CLIP, whose features are stored
            as its embeddings.
    """

    def __init__(
        self,
        inventory: Inventory,
        texts: FeatureStore,
        pictures: FeatureStore,
        classes: str | Path | None,
        context_words: int = 0,
    ) -> None:
        self.inventory, self.texts, self.pictures = inventory, texts, pictures
        self.context_words = context_words
        self.concepts = class_embeddings(inventory, texts, class_synsets(classes)) if classes else None

    def text(self, ids: list[str]) -> torch.Tensor:
        """Unit vectors of texts [n, d]."""
        return unit(torch.from_numpy(self.texts.pooled(ids)))

    def image(self, ids: list[str]) -> torch.Tensor:
        """Unit vectors of pictures [n, d]."""
        if self.concepts is None:
            return unit(torch.from_numpy(self.pictures.pooled(ids)))
        return unit(torch.from_numpy(self.pictures.class_probabilities(ids)) @ self.concepts)

    def words(self, instances: str | Path, definitions: Definitions) -> Iterator[Prediction]:
        """Candidate senses by the cosine of the gloss with the sentence, or with the target's own states where words
        are read in windows of several sentences."""
        corpus = TextualCorpus.read([instances], self.inventory, self.texts, definitions, self.context_words)
        glosses = self.text(gloss_ids(self.inventory, corpus.synsets))
        words = unit(corpus.words(range(len(corpus)), "cpu")[0]) if self.context_words else self.text(corpus.text_ids)
        for instance, word, places in zip(corpus.instances, words, corpus.candidates, strict=True):
            yield ranked(instance.instance_id, instance.candidates, (glosses[places] @ word).numpy())

    def queries(self, instances: str | Path, definitions: Definitions, forms: Sequence[str]) -> Iterator[Prediction]:
        """Pictures by the cosine with the mean of the query's texts; a picture without features comes last."""
        queries = read_queries([instances], definitions, forms)
        ids = sorted({p for query, _ in queries for p in query.candidates if p in self.pictures})
        place = {picture_id: k for k, picture_id in enumerate(ids)}
        each = self.text([text for _, of_query in queries for text in of_query])
        images, texts = self.image(ids), unit(each.view(len(queries), -1, each.shape[1]).mean(1))
        for (query, _), text in zip(queries, texts, strict=True):
            cosines = (images @ text).numpy()
            scores = [cosines[place[p]] if p in place else LOWEST for p in query.candidates]
            yield ranked(query.instance_id, query.candidates, scores)


def zero_shot(
    task: str, system: ZeroShot, instances: str | Path, definitions: Definitions, forms: Sequence[str]
) -> Iterator[Prediction]:
    """Predictions for one benchmark of either task."""
    if task == "textual":
        return system.words(instances, definitions)
    return system.queries(instances, definitions, forms)
