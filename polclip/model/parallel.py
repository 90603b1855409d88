"""One step over several processes: each encodes its share, all compare everything with everything.

A contrastive loss needs all rows of a step. Each process embeds its share of the texts and pictures and gathers
the embeddings of the others; the loss is then the same number everywhere, and the gradients, averaged over the
processes, are those of one process that had done it all.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def share(count: int) -> slice:
    """Which of `count` items are this process's; the last processes may have fewer.

    One for whom nothing is left takes the last item once more, which `gather` leaves out: so every process has
    work in every part of the model, and waits for none of the others in vain.
    """
    if processes() == 1 or count == 0:
        return slice(0, count)
    size = -(-count // processes())
    start = min(dist.get_rank() * size, count - 1)
    return slice(start, max(start + 1, min(count, start + size)))


def gather(mine: Tensor, count: int) -> Tensor:
    """The rows [count, d] of all processes, from the share [n, d] of this one; gradients flow back to each."""
    if processes() == 1:
        return mine
    size = -(-count // processes())
    padded = torch.cat([mine, mine.new_zeros(size - len(mine), *mine.shape[1:])])
    return _Gather.apply(padded)[:count]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, mine: Tensor) -> Tensor:
        parts = [torch.empty_like(mine) for _ in range(processes())]
        dist.all_gather(parts, mine.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        # Every process computed the same loss: the sum of their gradients, which the average over processes in
        # the parameters' gradients divides again.
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        size = len(gradient) // processes()
        return gradient[dist.get_rank() * size : (dist.get_rank() + 1) * size]
