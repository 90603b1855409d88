"""Licences that ask for more than attribution: such a data set is fetched only after the user has named it."""

from collections.abc import Collection, Iterable
from pathlib import Path

from polclip.downloads.manifest import Dataset
from polclip.errors import UserError


def to_accept(datasets: Iterable[Dataset], accepted: Collection[str], archives: str | Path) -> list[Dataset]:
    """Those that may not be fetched yet: a licence note, no name in `accept_licences`, no file in `archives`."""
    return [
        dataset
        for dataset in datasets
        if dataset.licence_note and dataset.name not in accepted and not (Path(archives) / dataset.file).exists()
    ]


def line_to_write(datasets: Iterable[Dataset], accepted: Collection[str]) -> str:
    """The line of a config that accepts these besides those that it accepts already."""
    names = dict.fromkeys([*accepted, *(dataset.name for dataset in datasets)])
    return f"accept_licences: [{', '.join(names)}]"


def check_licence(
    dataset: Dataset, accepted: Collection[str], archives: str | Path, run: Iterable[Dataset] = ()
) -> None:
    """Raise UserError where `dataset` has a licence that the user must accept and did not.

    The error has the line to write for it and for all others of `run`, so that one edit is enough.
    """
    if not to_accept([dataset], accepted, archives):
        return
    together = to_accept(run, accepted, archives)
    raise UserError(
        f"`{dataset.name}` is fetched only after you accept its licence, {dataset.licence} "
        f"({dataset.licence_note.rstrip('.')}), with this line in your config"
        + (", which names all data sets of this run that ask for it" if len(together) > 1 else "")
        + f":\n    {line_to_write([*together, dataset], accepted)}"
    )
