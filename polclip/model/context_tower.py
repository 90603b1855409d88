"""The text tower once more, trained to put a word's sense into the word's own states.

Glosses, phrases and pictures keep to the frozen towers: what they are aligned with does not move.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from polclip.model.blocks import masked_mean


class ContextTower(nn.Module):
    """Token ids [b, t] -> states [b, t, w], the mean of those behind the last `layers` layers, and their means over
    each text [b, w].

    Its form is that of `HuggingFaceTextEncoder`, whose weights it starts from. Attention is computed the plain way and
    without dropout: texts are short, and on CPUs a step takes a fifth less so.

    Args:
        config: what transformers builds the tower from, its config.json.
        trainable: the last so many blocks are trained; the embeddings stay as they were pretrained.
        precision: no, or bf16: computed in 16 bit where it is used as well, and not in training alone.
    """

    def __init__(self, config: dict[str, Any], layers: int, trainable: int, precision: str = "no") -> None:
        from transformers import AutoConfig, AutoModel  # here: models over frozen towers do without

        super().__init__()
        settings = {key: value for key, value in config.items() if key != "model_type"}
        settings["attention_probs_dropout_prob"] = 0.0
        self.transformer = AutoModel.from_config(
            AutoConfig.for_model(config["model_type"], **settings),
            attn_implementation="eager",
            trust_remote_code=False,
        )
        if hasattr(self.transformer, "pooler"):
            self.transformer.pooler = None  # reads the first token alone
        self.config, self.layers, self.precision = config, layers, precision
        self.transformer.requires_grad_(False)
        blocks = self.transformer.encoder.layer
        for block in blocks[len(blocks) - trainable :]:
            block.requires_grad_(True)

    @property
    def depth(self) -> int:
        return len(self.transformer.encoder.layer)

    def forward(self, tokens: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """`real` [b, t] is False at padding, which no token attends to."""
        # Else as the caller computes: a training may have chosen 16 bit.
        bf16 = torch.autocast(tokens.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with bf16:
            output = self.transformer(input_ids=tokens, attention_mask=real.long(), output_hidden_states=True)
        states = torch.stack(output.hidden_states[-self.layers :]).mean(0)
        return states, masked_mean(states, real)
