"""Where torch computes."""

from polclip.errors import UserError
from polclip.gpu_lock import claim_gpus

DEVICES = ("auto", "cpu", "cuda")


def choose_device(requested: str, threads: int = 1, gpus: int = 0) -> str:
    """The device to use, `cpu` or `cuda`, with torch held to `threads` CPU threads.

    requested: `auto` takes a GPU where there is one; `cpu` and `cuda` are taken at their word.
    gpus: so many are claimed first, see `polclip.gpu_lock`; 0: none, for programs that run by themselves.
    Raises UserError for another word, and for `cuda` on a machine without a GPU that torch can use.
    """
    if requested not in DEVICES:
        raise UserError(f"machine.device: {requested!r} is not allowed; allowed: {' | '.join(DEVICES)}.")
    if requested != "cpu":
        claim_gpus(gpus)

    import torch  # here, so that steps without torch can name the devices

    torch.set_num_threads(threads)
    there = torch.cuda.is_available()
    if requested == "cuda" and not there:
        raise UserError(
            "machine.device is cuda, and torch finds no GPU here: run this step on a machine with one "
            "(snakemake --workflow-profile profiles/slurm sends it to a cluster), or set "
            "machine.device: cpu, which is slow."
        )
    return "cuda" if there and requested != "cpu" else "cpu"
