"""Files that are whole or absent: atomic writing, checksums, local copies and downloads."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crystal_gym.errors import DamagedFileError, DownloadError, MissingDataError, StorageError
from crystal_gym.utils import settings


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file.

    Raises:
        MissingDataError: there is no such file.
        DamagedFileError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise MissingDataError(f"There is no file {path}.") from error
    except OSError as error:
        raise DamagedFileError(f"{path} cannot be read: {error}.") from error


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there only if the block ends well.

    Raises:
        StorageError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    beside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        beside = Path(name)
        yield beside
        # mkstemp makes private files; a finished one gets the permissions of any other.
        mask = os.umask(0)
        os.umask(mask)
        beside.chmod(0o666 & ~mask)
        beside.replace(path)
    except OSError as error:
        raise StorageError(
            f"Cannot write {path}: {error.strerror or error}. Free some space or choose another "
            f"folder; the cache folder is set by {settings.CACHE_VARIABLE}."
        ) from error
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)


@dataclass(frozen=True)
class RemoteFile:
    """A source file: the names it goes by on disk, its address and its checksum.

    Attributes:
        name: file name in the cache and of a local copy, wherever it lies.
        url: where it is downloaded from.
        checksum: hexadecimal SHA-256, or ``None`` where the publisher gives none and none could be
            computed; then the first download is trusted and its checksum recorded beside it.
        aliases: other names of a local copy.
        common_names: names that files of other collections bear too (``train.csv``); a local copy
            goes by them only in a folder named after the collection.
    """

    name: str
    url: str
    checksum: str | None
    aliases: tuple[str, ...] = ()
    common_names: tuple[str, ...] = ()


def find_local(file: RemoteFile, folder: str) -> Path | None:
    """A local copy in ``CRYSTAL_GYM_DATA`` or a sub-folder ``folder`` of it, else ``None``."""
    own = (file.name, *file.aliases)
    for root in settings.data_folders():
        for place in (root / folder, root):
            for name in (*own, *file.common_names) if place.name == folder else own:
                if (place / name).is_file():
                    return place / name
    return None


def find_cached(file: RemoteFile, folder: str) -> Path | None:
    """A local copy or an earlier download, not yet verified, else ``None``."""
    cached = _cached(file, folder)
    return find_local(file, folder) or (cached if cached.is_file() else None)


def fetch(file: RemoteFile, folder: str, *, progress: bool = True) -> Path:
    """A verified copy of ``file``: the local one, the cached one, or a fresh download.

    Args:
        file: what to fetch.
        folder: sub-folder of the cache and of ``CRYSTAL_GYM_DATA``, the collection's name.
        progress: show a progress bar while downloading.

    Raises:
        DamagedFileError: the copy at hand does not match the checksum.
        DownloadError: there is no copy at hand and the download failed.
    """
    local = find_local(file, folder)
    if local is not None:
        verify(local, file.checksum)
        return local
    cached = _cached(file, folder)
    record = cached.with_name(cached.name + ".sha256")
    if not cached.is_file():
        _download(file, cached, progress)
    if file.checksum is None and not record.is_file():
        with atomic_write(record) as beside:
            beside.write_text(sha256(cached) + "\n")
    verify(cached, file.checksum or record.read_text().strip())
    return cached


def _download(file: RemoteFile, cached: Path, progress: bool) -> None:
    import pooch
    from requests import RequestException

    # Its hints are for programmers.
    pooch.get_logger().setLevel("WARNING")
    with atomic_write(cached) as beside:
        try:
            pooch.retrieve(
                file.url,
                f"sha256:{file.checksum}" if file.checksum else None,
                fname=beside.name + ".download",
                path=beside.parent,
                # pooch documents the call by position; its protocol also names the arguments.
                downloader=pooch.HTTPDownloader(progressbar=progress, timeout=30),  # type: ignore[arg-type]
            )
            beside.with_name(beside.name + ".download").replace(beside)
        except RequestException as error:
            raise DownloadError(
                f"{file.name} is not at hand and {file.url} cannot be reached ({error}). Fetch it "
                f"elsewhere, put it into a folder and set {settings.DATA_VARIABLE} to that folder."
            ) from error
        except ValueError as error:
            raise DamagedFileError(
                f"The download of {file.name} from {file.url} does not match its SHA-256 "
                f"{file.checksum}. Try again; if it persists, the publisher changed the file, and "
                f"{settings.DATA_VARIABLE} can name a folder with a good copy."
            ) from error


def _cached(file: RemoteFile, folder: str) -> Path:
    return settings.cache_folder() / "downloads" / folder / file.name


def verify(path: Path, checksum: str | None) -> None:
    """Raise ``DamagedFileError`` unless ``path`` has this SHA-256 (``None``: nothing to check)."""
    if checksum is not None and sha256(path) != checksum:
        raise DamagedFileError(
            f"{path} is damaged or another version: its SHA-256 is {sha256(path)}, expected "
            f"{checksum}. Delete it and fetch it again."
        )
