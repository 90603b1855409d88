"""A pair of unimodal towers: a Hugging Face text encoder and EfficientNet-Lite0.

Weights: all-MiniLM-L6-v2 (Apache-2.0) and EfficientNet-Lite0 trained on ImageNet-1k (Apache-2.0). Both load
without executing code: safetensors, and `torch.load(weights_only=True)`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.rnn import pad_sequence

from polclip.encoders.interface import EncodedImages, EncodedTexts, TokensOfText
from polclip.errors import UserError
from polclip.model.checked_config import check_memory, in_a_sentence, read_config, shapes_of


class HuggingFaceTextEncoder:
    """Any BERT-like encoder from a local folder; the pooled state is the mean over the tokens.

    Args:
        folder: holds config.json, model.safetensors and the tokenizer's files.
        layers: a token's state is the mean of its states behind the last so many layers.
        precision: no (32 bit) or bf16, in which its products are computed.
        longest: texts are cut after this many tokens, the closing special token kept.
    """

    def __init__(
        self, folder: str | Path, device: str = "cpu", layers: int = 1, precision: str = "no", longest: int = 256
    ) -> None:
        from transformers import AutoTokenizer  # here: the image tower does without

        self.folder = Path(folder)
        with _read_from(self.folder):
            self.shapes = shapes_of(sorted(self.folder.glob("*.safetensors")))
            read_config(self.folder / "config.json", self.shapes)  # before transformers reads it
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self.device = device
        self.layers = layers
        self.precision = precision
        self.longest = longest

    @cached_property
    def model(self) -> nn.Module:
        """The tower; read when it is first run, since some who ask for tokens never run it."""
        from transformers import AutoConfig, AutoModel

        own = {"local_files_only": True, "trust_remote_code": False}
        with _read_from(self.folder):
            config = AutoConfig.from_pretrained(self.folder, **own)
            with torch.device("meta"):
                check_memory(AutoModel.from_config(config, trust_remote_code=False), self.shapes)
            model, loading = AutoModel.from_pretrained(
                self.folder, config=config, use_safetensors=True, output_loading_info=True, **own
            )
            # transformers would make up what is missing, and goes on.
            if missing := sorted(name for name in loading["missing_keys"] if not name.startswith("pooler.")):
                raise ValueError(f"the weights lack {', '.join(missing[:3])}")
            if self.layers > config.num_hidden_layers + 1:
                raise ValueError(f"text_layers: {self.layers}, and the encoder has {config.num_hidden_layers} layers")
        return model.eval().to(self.device)

    @torch.inference_mode()
    def __call__(self, texts: Sequence[TokensOfText]) -> EncodedTexts:
        tokens, spans = map(list, zip(*texts, strict=True))
        ids = [torch.from_numpy(of_text).long() for of_text in tokens]
        ids = pad_sequence(ids, batch_first=True, padding_value=self.tokenizer.pad_token_id).to(self.device)
        real = torch.arange(ids.shape[1]) < torch.tensor([[len(of_text)] for of_text in tokens])
        real = real.to(self.device)
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            output = self.model(ids, real.long(), output_hidden_states=self.layers > 1)
        last = output.last_hidden_state.float()
        pooled = (last * real[..., None]).sum(1) / real.sum(1, keepdim=True)
        states = torch.stack(output.hidden_states[-self.layers :]).float().mean(0) if self.layers > 1 else last
        states, real = states.cpu().numpy(), real.cpu().numpy()
        return EncodedTexts(
            states=[row[mask] for row, mask in zip(states, real, strict=True)],
            spans=spans,
            pooled=pooled.cpu().numpy(),
            tokens=tokens,
        )

    def tokens(self, texts: Sequence[str]) -> list[TokensOfText]:
        batch = self.tokenizer(list(texts), truncation=True, max_length=self.longest, return_offsets_mapping=True)
        pairs = zip(batch["input_ids"], batch["offset_mapping"], strict=True)
        return [(np.array(ids, np.int32), np.array(spans, np.int32)) for ids, spans in pairs]


@contextmanager
def _read_from(folder: Path) -> Iterator[None]:
    """Turn what transformers, tokenizers and our own checks raise into one sentence."""
    try:
        yield
    except Exception as error:
        files = [file for file in (folder / "config.json", folder / "tokenizer_config.json") if file.is_file()]
        if any(b'"auto_map"' in file.read_bytes() for file in files):
            reason = "it brings Python code of its own (auto_map), and nothing that is loaded runs code"
        else:
            reason = in_a_sentence(error)
        raise UserError(
            f"{folder} does not hold a text encoder that can be read: {reason}. Use one with config.json, "
            "model.safetensors and a tokenizer of a kind that transformers has itself, such as bert."
        ) from error


def fold_batch_norms(model: nn.Module) -> None:
    """Fold each batch norm of a timm network into the convolution before it; its activation stays in its place.

    The same function, computed a seventh faster on CPUs.
    """
    for module in list(model.modules()):
        children = list(module.named_children())
        for (name, convolution), (norm_name, norm) in pairwise(children):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(convolution, norm))
                setattr(module, norm_name, norm.act)


class EfficientNetLite0:
    """EfficientNet-Lite0 at 224 pixels: 7 x 7 patches of width 1280, averaged down to `grid` x `grid` tokens.

    The pooled state is the mean over all patches. Pixels are scaled to (x - 127) / 128, as in training.
    """

    def __init__(self, weights: str | Path, device: str = "cpu", grid: int = 4) -> None:
        import timm  # here: the text tower does without

        self.model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        names = self.model.state_dict()
        try:
            stored = torch.load(weights, map_location="cpu", weights_only=True)
            # The file names its layers differently but lists the same tensors in the same order.
            fits = [t.shape for t in stored.values()] == [t.shape for t in names.values()]
        except Exception as error:  # torch raises many kinds on damaged files
            raise UserError(
                f"{weights} cannot be read as weights ({in_a_sentence(error)}). Fetch the package again."
            ) from error
        if not fits:
            raise UserError(f"{weights} does not hold the weights of EfficientNet-Lite0.")
        self.model.load_state_dict(dict(zip(names, stored.values(), strict=True)))
        fold_batch_norms(self.model.eval())
        # Channels last runs convolutions about 1.5 times faster on CPUs.
        self.model.to(device, memory_format=torch.channels_last)
        self.device = device
        self.grid = grid
        self.bytes_per_picture = 2 * (grid**2 * 1280 + 1280 + 1000)

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """A picture as [3, 224, 224] whole numbers."""
        return torch.from_numpy(np.array(image.resize((224, 224)))).permute(2, 0, 1)

    @torch.inference_mode()
    def __call__(self, prepared: torch.Tensor) -> EncodedImages:
        batch = prepared.to(self.device).float()
        batch = ((batch - 127) / 128).contiguous(memory_format=torch.channels_last)
        maps = self.model.forward_features(batch)  # [n, 1280, 7, 7]
        pooled = maps.mean((2, 3))
        tokens = torch.nn.functional.adaptive_avg_pool2d(maps, self.grid).flatten(2).transpose(1, 2)
        probabilities = self.model.classifier(pooled).softmax(-1)
        return EncodedImages(tokens, pooled, probabilities)
