"""The two towers of a CLIP from open_clip, by name and weights (a tag, a local file or a hub folder)."""

import numpy as np
import torch
from PIL import Image

from polclip.encoders.interface import EncodedImages, EncodedTexts
from polclip.errors import UserError

NEAR = 16  # bytes to look ahead for a token: white space, or the rest of an entity such as &quot;


def load_clip(architecture: str, weights: str, device: str = "cpu"):
    """Load a CLIP without executing code; returns the model, its preprocessing and its tokenizer."""
    import open_clip  # here, since its import takes seconds and a pair of towers does without

    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            architecture, pretrained=weights, device=device, weights_only=True
        )
        return model.eval(), preprocess, open_clip.get_tokenizer(architecture)
    except Exception as error:  # open_clip and the hub client raise many kinds
        raise UserError(
            f"The CLIP {architecture!r} with weights {weights!r} could not be loaded ({error}). Give "
            "`encoder.clip_weights` a file on this disk, or run once where the model hub can be reached."
        ) from error


def clip_projections(architecture: str, weights: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A CLIP's two projections into its joint space: text [width, embed] and image [width, embed]."""
    model, _, _ = load_clip(architecture, weights)
    return model.text_projection.detach().clone(), model.visual.proj.detach().clone()


class ClipTextEncoder:
    """Text tower: states after the final norm; the pooled state is the one at end-of-text."""

    def __init__(self, model: torch.nn.Module, tokenizer, device: str = "cpu") -> None:
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self.width: int = model.ln_final.normalized_shape[0]

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> EncodedTexts:
        # open_clip's tokenizer keeps end-of-text when it cuts a text; padding is 0 behind end-of-text.
        tokens = self.tokenizer(texts)
        ends = tokens.argmax(-1)
        tokens = tokens[:, : int(ends.max()) + 1].to(self.device)
        states = self.model.token_embedding(tokens) + self.model.positional_embedding[: tokens.shape[1]]
        mask = self.model.attn_mask[: tokens.shape[1], : tokens.shape[1]]
        states = self.model.ln_final(self.model.transformer(states, attn_mask=mask)).float().cpu().numpy()
        return EncodedTexts(
            states=[row[: end + 1] for row, end in zip(states, ends, strict=True)],
            spans=[
                self._spans(text, row[: end + 1].tolist())
                for text, row, end in zip(texts, tokens.cpu(), ends, strict=True)
            ],
            pooled=states[np.arange(len(texts)), ends],
        )

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
    """Image tower: all tokens after the final norm, CLS first; the pooled state is CLS."""

    def __init__(self, model: torch.nn.Module, preprocess, device: str = "cpu") -> None:
        self.model, self.preprocess, self.device = model, preprocess, device
        self.width: int = model.visual.ln_post.normalized_shape[0]

    @torch.inference_mode()
    def __call__(self, images: list[Image.Image]) -> EncodedImages:
        batch = torch.stack([self.preprocess(image) for image in images]).to(self.device)
        visual = self.model.visual
        states = visual.ln_post(visual.transformer(visual._embeds(batch))).float().cpu().numpy()
        return EncodedImages(states, states[:, 0], None)
