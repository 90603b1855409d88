"""Momentum copies: a moving average of a module's parameters, the target of the generated representations."""

import copy

import torch
from torch import nn


class MomentumCopy(nn.Module):
    """A copy of `module` that follows it slowly and takes no gradient (MoCo; MODEL.md, forward pass 8).

    Call `follow` once after each optimizer step, outside forward.
    """

    def __init__(self, module: nn.Module, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.module = copy.deepcopy(module).requires_grad_(False).eval()

    @torch.no_grad()
    def follow(self, module: nn.Module) -> None:
        for slow, fast in zip(self.module.parameters(), module.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.momentum)

    def train(self, mode: bool = True) -> "MomentumCopy":
        return super().train(False)  # the target is never dropped out

    @torch.no_grad()
    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)
