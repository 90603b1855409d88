"""What every PolCLIP has in common: one step of training, and the folder a model is saved in."""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polclip.errors import UserError
from polclip.files import complete_or_absent, write_json
from polclip.model.checked_config import check_memory, in_a_sentence, read_config, shapes_of
from polclip.model.losses import candidates_loss, four_losses
from polclip.model.parallel import gather
from polclip.model.representations import Batch, Chunks, GlossVectors, Losses, Represented, joined

MODEL_CARD = """\
---
{{ card_data }}
---
# PolCLIP: word senses in text and pictures

PolCLIP picks the WordNet 3.0 sense of a word in a sentence, and ranks pictures by how well they show what a word means
in a phrase. It is an independent reimplementation of [Yang et al., ACL 2024]({{ paper_url }}).

| | |
|---|---|
| kind | {{ kind }} |
| parameters | {{ parameters }} |
{% for role, archive in archives.items() %}| {{ role }} | `{{ archive.file }}` (SHA-256 `{{ archive.sha256 }}`) |
{% endfor %}
```python
from polclip import Disambiguator

disambiguator = Disambiguator.from_pretrained("{{ name }}")
disambiguator.senses("The bat flew off", target="bat")
```

Scores, training data and their licences are in the report of the run that trained the model.
"""


class PolCLIP(
    nn.Module,
    ModelHubMixin,
    model_card_template=MODEL_CARD,
    paper_url="https://aclanthology.org/2024.acl-long.575/",
    language=["en"],
    library_name="polclip",
    tags=["word-sense-disambiguation", "wordnet"],
):
    """A model that embeds words in context, phrases, glosses and images in one space.

    `PolCLIP.from_pretrained` reads a folder, or a repository of the model hub; `push_to_hub` writes one. Of the two
    kinds, `PairPolCLIP` stands on a pair of frozen towers and `ClipPolCLIP` on a CLIP. Each gives `word_in_context`,
    `phrase`, `gloss`, `image`, and moves its `momentum` copies when it is told to `follow`.
    """

    settings: Any  # of the kind; both have `sig`, `isg` and `fusion`
    log_scale: nn.Parameter
    momentum: nn.Module | None
    embed: int  # width of the joint space
    pretrained: tuple[str, ...]  # how the names of the parameters begin that start from the towers
    several_positives = "mean"
    wants_captions = False
    reads_tokens = False  # whether words in context are read as token ids, for a text tower that is trained
    encoders: dict | None = None  # what encoders.json says: which towers and inventory the model is used with

    @property
    def device(self) -> torch.device:
        return self.log_scale.device

    @property
    def scale(self) -> Tensor:
        """1 / temperature, kept at most 100."""
        return self.log_scale.exp().clamp(max=100)

    def forward(self, batch: Batch) -> Losses:
        """The four losses of one step; every process of a training gets those of the whole step."""
        labels = batch.labels
        words = self._embedded(lambda part: self.word_in_context(*part), batch.words)
        phrases = self._embedded(self.phrase, batch.phrases)
        contexts = torch.cat(
            [
                gather(words, batch.word_count),
                gather(phrases, labels.gloss_of_context.shape[0] - batch.word_count),
            ]
        )
        captions = None
        if batch.captions is not None:
            captions = gather(self._embedded(self.phrase, batch.captions), labels.image_of_caption.shape[0])
        # A target costs another run of a tower: only where its loss is asked for.
        for_isg = self.settings.isg and batch.images is not None
        parts = [self.gloss(tokens, with_target=for_isg) for tokens in batch.glosses.parts]
        gloss = None
        if parts:
            gloss = self._gathered(joined(parts, batch.glosses.order), labels.gloss_of_context.shape[1])
        image = None
        if batch.images is not None:
            image = self._gathered(
                self.image(batch.images, with_target=self.settings.sig), labels.gloss_of_image.shape[1]
            )
        # Cosines a thousandth apart are what is learned: 16 bit would round them away.
        with torch.autocast(self.device.type, enabled=False):
            losses = four_losses(contexts, captions, gloss, image, labels, self.scale, self.several_positives)
            if batch.table is None:
                return losses
            table = batch.table
            senses = self.senses(table.glosses, table.lineages)
            # Rows taken several times: on CPU index_select adds their gradients in one order, indexing in any.
            pairs = contexts.index_select(0, table.word) * senses.index_select(0, table.sense)
            logits = self.scale * pairs.sum(1)
            own = candidates_loss(logits, table.word, table.gold, batch.word_count)
            return losses._replace(w2s=losses.w2s + own)

    def senses(self, glosses: GlossVectors, lineages: Sequence[Sequence[str]]) -> Tensor:
        """What words are compared with [n, d]: the glosses' `matched` vectors, and what was learned of each sense where
        the model does so. lineages: of each sense, see `Inventory.lineage`."""
        return glosses.matched

    def _embedded(self, encode: Callable, chunks: Chunks) -> Tensor:
        if not chunks.parts:
            return torch.zeros(0, self.embed, device=self.device)
        return torch.cat([encode(part) for part in chunks.parts])[chunks.order].float()

    @staticmethod
    def _gathered(mine: Represented, count: int) -> Represented:
        return Represented(*(None if part is None else gather(part.float(), count) for part in mine))

    def try_reading(self) -> None:
        """Read two tokens with the model's own text tower, if it has one: libraries check some settings no sooner."""

    def own_state(self) -> dict[str, Tensor]:
        """The weights by name, without the momentum copies, which belong to training."""
        return {name: t for name, t in self.state_dict().items() if not name.startswith("momentum.")}

    def push_to_hub(self, repo_id: str, *, model_card_kwargs: dict | None = None, **options: object) -> str:
        """Upload the model with a model card; return the URL of the commit."""
        card = {"name": repo_id, **(model_card_kwargs or {})}
        return super().push_to_hub(repo_id, model_card_kwargs=card, **options)

    def generate_model_card(self, *, name: str = "FOLDER", **values: object) -> ModelCard:
        """The README.md of a saved model; `name` is the folder or repository that the card's example opens."""
        archives = {role: (self.encoders or {}).get(role) for role in ("text", "image", "inventory")}
        return super().generate_model_card(
            name=name,
            kind=type(self).__name__,
            parameters=f"{sum(tensor.numel() for tensor in self.own_state().values()):,}",
            archives={role: archive for role, archive in archives.items() if archive},
            **values,
        )

    def _save_pretrained(self, save_directory: Path) -> None:
        self.write(save_directory)

    def write(self, folder: str | Path) -> None:
        """Write `model.safetensors`, `config.json` and, where it is known, `encoders.json`, each complete or absent."""
        weights = {name: t.contiguous() for name, t in self.own_state().items()}
        with complete_or_absent(Path(folder) / "model.safetensors") as temporary:
            save_file(weights, temporary)
            temporary.chmod(0o644)  # safetensors makes files that only their owner can read
        with complete_or_absent(Path(folder) / "config.json") as temporary:
            temporary.write_text(json.dumps(self.description(), indent=2) + "\n", encoding="utf-8")
        if self.encoders is not None:
            write_json(Path(folder) / "encoders.json", self.encoders)

    @classmethod
    def from_pretrained(cls, folder_or_repository: str | Path, **hub) -> "PolCLIP":
        """Read a folder, or a repository of the model hub; the model comes in evaluation mode."""
        if Path(folder_or_repository).is_dir():
            return read_model(folder_or_repository)
        return super().from_pretrained(folder_or_repository, **hub)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, revision: str | None = None, **hub) -> "PolCLIP":
        keys = ("cache_dir", "force_download", "local_files_only", "token")
        return read_model(snapshot_download(model_id, revision=revision, **{key: hub.get(key) for key in keys}))


def check_parts(settings: Any) -> None:
    """Raise UserError where fusion is asked for without what it attends to."""
    if settings.fusion and not (settings.sig and settings.isg):
        raise UserError(
            "model.fusion attends to what SIG and ISG generate: with model.fusion: true, "
            "model.sig and model.isg have to be true as well."
        )


def _kind(name: object) -> type[PolCLIP]:
    """The class of a kind; imported when it is asked for, since open_clip takes seconds."""
    if name == "pair":
        from polclip.model.pair_polclip import PairPolCLIP

        return PairPolCLIP
    if name == "clip":
        from polclip.model.clip_polclip import ClipPolCLIP

        return ClipPolCLIP
    raise ValueError(f"{name!r} is not a kind of model; allowed: pair, clip")


def read_model(folder: str | Path) -> PolCLIP:
    """A model from its folder, in evaluation mode.

    UserError where the folder holds none. Its sizes are compared with the weights' header first, so that a config.json
    with huge or odd values takes no memory.
    """
    folder = Path(folder)
    with _one_sentence(folder):
        shapes = shapes_of([folder / "model.safetensors"])
        config = read_config(folder / "config.json", shapes)
        kind = _kind(config.get("kind"))
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            described = kind.from_description(config)
        check_memory(described, shapes)
        beside = folder / "encoders.json"
        encoders = read_config(beside) if beside.exists() else None
    expected = {name: tuple(tensor.shape) for name, tensor in described.own_state().items()}
    wrong = sorted(name for name in expected.keys() | shapes.keys() if expected.get(name) != shapes.get(name))
    if wrong:
        raise UserError(
            f"{folder}: the weights do not fit config.json ({', '.join(wrong[:5])}). Copy the folder again."
        )
    with _one_sentence(folder):
        model = kind.from_description(config).eval()
        model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        with torch.inference_mode():
            model.try_reading()
    model.encoders = encoders
    model.restart_momentum()
    return model.eval()


@contextmanager
def _one_sentence(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # torch, open_clip and transformers raise many kinds on odd values
        raise UserError(
            f"{folder} is not a PolCLIP model: config.json and model.safetensors are expected, as training writes them "
            f"({in_a_sentence(error)}). Copy the folder again, or name another one."
        ) from error
