"""The two towers of any CLIP of open_clip: by name and weights (a tag or a local file), or a whole local folder.

A text is stored as its token ids, since the text tower is trained. A picture is stored as what its frozen blocks
make of it: the states of all its tokens before the final norm.
"""

import contextlib
import difflib
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from polclip.encoders.activation import check_activation
from polclip.encoders.interface import EncodedImages, EncodedTexts, TokensOfText
from polclip.errors import UserError
from polclip.foreign_code import refuse_foreign_code
from polclip.model.checked_config import in_a_sentence
from polclip.model.clip_towers import ImageTop, check_towers, embed_text, image_states
from polclip.model.representations import Tokens

NEAR = 16  # bytes to look ahead for a token: white space, or the rest of an entity such as &quot;


def load_clip(architecture: str, weights: str, device: str = "cpu"):
    """Load a CLIP without executing code; returns the model (towers `visual` and `text`) and its preprocessing.

    Args:
        architecture: a name of open_clip, or local-dir: and a folder with open_clip_config.json.
        weights: a tag of open_clip, a local file, or "" for those in the folder.

    Raises UserError where the weights cannot be loaded, or were trained with another activation.
    """
    import open_clip  # here, since its import takes seconds and a pair of towers does without

    refuse_foreign_code()
    clip_config(architecture)
    if architecture.startswith("local-dir:") and weights:
        raise UserError(
            f'encoder.clip_architecture: {architecture!r} brings its weights along; write encoder.clip_weights: "".'
        )
    check_activation(architecture, weights)
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            architecture, pretrained=weights or None, device=device, force_custom_text=True, weights_only=True
        )
    except Exception as error:  # open_clip and the hub client raise many kinds
        raise UserError(
            f"The CLIP {architecture!r} with weights {weights!r} could not be loaded ({error}). Give "
            "`encoder.clip_weights` a file on this disk, or run once where the model hub can be reached."
        ) from error
    check_towers(model)
    return model.eval(), preprocess


def clip_config(architecture: str) -> dict:
    """What open_clip builds the architecture from; UserError for a name it does not know."""
    import open_clip

    try:
        config = open_clip.get_model_config(architecture)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The CLIP {architecture!r} has no open_clip_config.json that can be read ({error})."
        ) from error
    if config is None:
        near = difflib.get_close_matches(architecture, open_clip.list_models(), 3)
        raise UserError(
            f"encoder.clip_architecture: open_clip knows no {architecture!r}; "
            f"near it: {', '.join(near) or 'ViT-B-32, ViT-L-14-quickgelu, ViT-H-14'}."
        )
    return config


def bytes_per_picture(architecture: str, grid: int | None) -> int:
    """What is stored of one picture: its tokens' states in 16 bit, and its embedding."""
    config = clip_config(architecture)
    vision = config["vision_cfg"]
    side = grid or vision["image_size"] // vision["patch_size"]
    return _stored_bytes(side**2 + 1, vision["width"], config["embed_dim"])


def _stored_bytes(tokens: int, width: int, embed: int) -> int:
    return 2 * (tokens * width + embed)


def tokenizer_of(architecture: str, config: dict):
    """The tokenizer of a CLIP: open_clip's own wherever that serves, which needs no file of the architecture."""
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer

    text = config["text_cfg"]
    if not text.get("hf_tokenizer_name"):
        return SimpleTokenizer(context_length=text.get("context_length", 77), **text.get("tokenizer_kwargs", {}))
    try:
        # The folder's own settings of the tokenizer cannot allow code either.
        return open_clip.get_tokenizer(architecture, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers raise many kinds
        raise UserError(
            f"The tokenizer of the CLIP {architecture!r} could not be loaded ({in_a_sentence(error)}). Name an "
            "architecture whose tokenizer is on this disk, or run once where the model hub can be reached."
        ) from error


def preprocessing(config: dict | None, size: tuple[int, int]):
    """How pictures are brought to the tower's form, from what open_clip keeps of it (`visual.preprocess_cfg`).

    size: of the pictures that the tower reads, in pixels; UserError where the configuration makes others.
    """
    from open_clip.transform import PreprocessCfg, image_transform_v2

    try:
        told = PreprocessCfg(**config)
        made = (told.size, told.size) if isinstance(told.size, int) else tuple(told.size)
        if made != tuple(size):
            raise ValueError(f"size: {told.size}, and the image tower reads {size[0]} x {size[1]} pixels")
        for name, low in (("mean", -math.inf), ("std", 0)):
            values = config[name]
            if len(values) != 3 or not all(type(value) in (int, float) and low < value for value in values):
                raise ValueError(f"{name}: three numbers, those of std above 0")
        return image_transform_v2(told, is_train=False)
    except Exception as error:  # torchvision checks only some of the values
        raise UserError(
            "`preprocess` in encoders.json does not say how pictures are brought to the image tower's size "
            f"({in_a_sentence(error)}). Copy encoders.json again."
        ) from error


class ClipTextEncoder:
    """A CLIP's tokenizer, and its text tower as it comes: token ids, and the pretrained embedding of the whole text.

    Args:
        config: what the CLIP is built from; None: what open_clip builds the architecture from.
    """

    def __init__(
        self, model: torch.nn.Module, architecture: str, device: str = "cpu", config: dict | None = None
    ) -> None:
        self.text, self.device = model.text, device
        self.tokenizer = tokenizer_of(architecture, config or clip_config(architecture))

    def tokens(self, texts: Sequence[str]) -> list[TokensOfText]:
        return [self._tokens_and_spans(text) for text in texts]

    @torch.inference_mode()
    def __call__(self, texts: Sequence[TokensOfText]) -> EncodedTexts:
        tokens = [ids for ids, _ in texts]
        longest = max(map(len, tokens))
        real = torch.arange(longest)[None] < torch.tensor([[len(ids)] for ids in tokens])
        padded = torch.tensor([np.pad(ids, (0, longest - len(ids))).tolist() for ids in tokens])
        with half_precision(self.device):
            _, pooled = embed_text(self.text, Tokens(None, padded.to(self.device), real.to(self.device)))
        return EncodedTexts(tokens, [spans for _, spans in texts], pooled.float().cpu().numpy())

    def _tokens_and_spans(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        fast = getattr(self.tokenizer, "tokenizer", None)
        if fast is not None:  # one of transformers'
            length = self.tokenizer.context_length
            batch = fast(text, truncation=True, max_length=length, return_offsets_mapping=True)
            return np.array(batch["input_ids"], np.int32), np.array(batch["offset_mapping"], np.int32)
        # open_clip's own keeps end-of-text when it cuts a text; behind it are zeros.
        tokens = self.tokenizer([text])[0].numpy()
        tokens = tokens[: tokens.argmax() + 1].astype(np.int32)
        return tokens, self._spans(text, tokens.tolist())

    def _spans(self, text: str, tokens: list[int]) -> np.ndarray:
        """Characters of each token, found by walking through the text's bytes; (0, 0) at both ends.

        Bytes, since one letter may be cut into several tokens; cleaned letter by letter as the tokenizer cleans
        the whole, so that curly quotes and ligatures are found. What is not found near by has an empty span.
        """
        letters = [c.lower() if c.isascii() else self.tokenizer.clean_fn(c) for c in text]
        owner = [k for k, letter in enumerate(letters) for _ in letter.encode()] + [len(text)]
        written = "".join(letters).encode()
        spans, position = [(0, 0)], 0
        for token in tokens[1:-1]:
            symbols = self.tokenizer.decoder[token].removesuffix("</w>")
            piece = bytes(self.tokenizer.byte_decoder[symbol] for symbol in symbols)
            start = written.find(piece, position, position + len(piece) + NEAR)
            if start < 0:
                spans.append((owner[position], owner[position]))
                continue
            position = start + len(piece)
            spans.append((owner[start], owner[position - 1] + 1))
        return np.array([*spans, (0, 0)], dtype=np.int32)


class ClipImageEncoder:
    """A CLIP's image tower: the states behind its frozen blocks, and the pretrained embedding of the whole picture.

    Args:
        trainable_blocks: the last so many, before which the states are taken.
        grid: the patches are averaged to grid x grid; None keeps them all.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        preprocess,
        device: str = "cpu",
        trainable_blocks: int = 0,
        grid: int | None = None,
    ) -> None:
        self.visual, self.device, self.grid = model.visual, device, grid
        # open_clip's steps: to size and RGB, to a tensor between 0 and 1, normalized.
        *self.to_size, _, self.normalize = preprocess.transforms
        self.frozen = len(self.visual.transformer.resblocks) - trainable_blocks
        self.top = ImageTop(self.visual, self.frozen)
        tokens, width = self.visual.positional_embedding.shape
        tokens = tokens if grid is None else grid**2 + 1
        self.bytes_per_picture = _stored_bytes(tokens, width, self.visual.proj.shape[1])

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """A picture in the tower's size, [3, h, w] whole numbers: a quarter of what normalized ones would take."""
        for transform in self.to_size:
            image = transform(image)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    @torch.inference_mode()
    def __call__(self, prepared: torch.Tensor) -> EncodedImages:
        pixels = self.normalize(prepared.to(self.device, non_blocking=True).float() / 255)
        with half_precision(self.device):
            states = image_states(self.visual, pixels, self.frozen)
            _, pooled = self.top(states)
        if self.grid is not None:
            states = torch.cat([states[:, :1], pooled_grid(states[:, 1:], self.grid)], 1)
        return EncodedImages(states.half(), pooled.float(), None)


def pooled_grid(patches: torch.Tensor, grid: int) -> torch.Tensor:
    """Patches [b, side * side, w] averaged to [b, grid * grid, w]."""
    side = round(patches.shape[1] ** 0.5)
    square = patches.transpose(1, 2).reshape(len(patches), -1, side, side).float()
    return torch.nn.functional.adaptive_avg_pool2d(square, grid).flatten(2).transpose(1, 2)


def half_precision(device: str):
    """16-bit arithmetic on GPUs, whose results are stored in 16 bit anyway; CPUs are no faster with it."""
    return torch.autocast("cuda", torch.float16) if str(device).startswith("cuda") else contextlib.nullcontext()
