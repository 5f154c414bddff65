"""Atomic writing, checksums, local copies and downloads of files."""

import contextlib
import gzip
import hashlib
import os
import tempfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from crystal_gym.errors import DamagedFileError, DownloadError, MissingDataError
from crystal_gym.utils import settings
from crystal_gym.utils.storage_errors import storage_errors

# Characters of a file's name that its temporary file shares.
_LONGEST_PREFIX = 100


def sha256(path: Path) -> str:
    """Compute the hexadecimal SHA-256 of a file.

    Raises:
        MissingDataError: If there is no such file.
        DamagedFileError: If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise MissingDataError(f"Expected a file {path}, got no file. Check the path.") from error
    except OSError as error:
        raise DamagedFileError(f"{path} cannot be read: {error}. Check the path.") from error


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which is renamed to ``path`` if the block raises no error.

    The file is therefore complete or absent. The temporary file is in the same folder and is
    deleted after an error.

    Args:
        path: Final path; its folder is created.

    Raises:
        StorageError: If the folder is not writable or the disk is full.
    """
    temporary = None
    in_cache = path.is_relative_to(settings.cache_folder())
    hint = f"{settings.CACHE_VARIABLE} sets the cache folder." if in_cache else ""
    with storage_errors(path, hint):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A long name leaves no room for the characters that a temporary name adds.
            prefix = f".{path.name[:_LONGEST_PREFIX]}."
            handle, name = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=path.parent)
            os.close(handle)
            temporary = Path(name)
            yield temporary
            # The files of mkstemp are private; the finished one gets the usual permissions.
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
            temporary.replace(path)
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class RemoteFile:
    """A published file: its names, its address and its checksum.

    Attributes:
        name: Name of the file in the cache and of a local copy.
        url: Address for the download.
        checksum: Hexadecimal SHA-256, or ``None`` if it is unknown. Without ``contents``, the first
            download is then trusted, and its checksum is stored next to it.
        contents: Accepted checksums of the content, which local copies may have compressed with
            gzip: SHA-256 or the id of the object in git. Empty: the file itself is verified.
        aliases: Other names of a local copy.
        common_names: Names that files of other collections also have, such as ``train.csv``. They
            are accepted only in a folder with the name of the collection.
    """

    name: str
    url: str
    checksum: str | None
    contents: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    common_names: tuple[str, ...] = ()


def find_local(file: RemoteFile, folder: str) -> Path | None:
    """Return a local copy in ``CRYSTAL_GYM_DATA`` or its subfolder, or ``None`` if there is none.

    Args:
        file: The file.
        folder: Name of the subfolder.
    """
    names = (file.name, *file.aliases)
    for root in settings.data_folders():
        for place in (root / folder, root):
            for name in (*names, *file.common_names) if place.name == folder else names:
                if (place / name).is_file():
                    return place / name
    return None


def find_cached(file: RemoteFile, folder: str) -> Path | None:
    """Return a local copy or an earlier download without verification, or ``None``.

    Args:
        file: The file.
        folder: Subfolder of the cache and of ``CRYSTAL_GYM_DATA``.
    """
    cached = _cached(file, folder)
    return find_local(file, folder) or (cached if cached.is_file() else None)


def fetch(file: RemoteFile, folder: str, *, progress: bool = True) -> Path:
    """Return a verified copy of a file: a local copy, an earlier download or a new download.

    Args:
        file: The file.
        folder: Subfolder of the cache and of ``CRYSTAL_GYM_DATA``.
        progress: Show a progress bar during the download.

    Raises:
        DamagedFileError: If the copy does not match the checksum.
        DownloadError: If there is no copy and the download fails.
        StorageError: If the cache folder cannot be written.
    """
    local = find_local(file, folder)
    if local is not None:
        _verify_copy(local, file)
        return local
    cached = _cached(file, folder)
    record = cached.with_name(cached.name + ".sha256")
    if not cached.is_file():
        _download(file, cached, progress)
    if file.contents:
        read_verified(cached, file.contents)
        return cached
    if file.checksum is None and not record.is_file():
        with atomic_write(record) as temporary:
            temporary.write_text(sha256(cached) + "\n")
    verify(cached, file.checksum or record.read_text().strip())
    return cached


def _download(file: RemoteFile, cached: Path, progress: bool) -> None:
    import pooch
    from requests import RequestException

    # Messages of pooch at level INFO are meant for developers.
    pooch.get_logger().setLevel("WARNING")
    with atomic_write(cached) as temporary:
        try:
            pooch.retrieve(
                file.url,
                f"sha256:{file.checksum}" if file.checksum else None,
                fname=temporary.name + ".download",
                path=temporary.parent,
                # pooch passes arguments by position; its protocol also defines their names.
                downloader=pooch.HTTPDownloader(progressbar=progress, timeout=30),  # type: ignore[arg-type]
            )
            temporary.with_name(temporary.name + ".download").replace(temporary)
        except RequestException as error:
            raise DownloadError(
                f"Expected a local copy of {file.name} or access to {file.url}, got neither "
                f"({error}). Download the file on another machine, copy it to a folder and set "
                f"{settings.DATA_VARIABLE} to this folder."
            ) from error
        except ValueError as error:
            raise DamagedFileError(
                f"Expected {file.name} from {file.url} with the SHA-256 {file.checksum}, got "
                "other content. Download it again. If the error persists, the publisher changed "
                f"the file; set {settings.DATA_VARIABLE} to a folder with the original file."
            ) from error
        if file.contents:
            read_verified(temporary, file.contents)


def _verify_copy(path: Path, file: RemoteFile) -> None:
    if file.contents:
        read_verified(path, file.contents)
    else:
        verify(path, file.checksum)


def read_verified(path: Path, checksums: Collection[str]) -> bytes:
    """Return the content of a file, decompressed if it is compressed with gzip.

    Args:
        path: The file.
        checksums: Accepted checksums of the content: SHA-256 or the id of the object in git.

    Raises:
        DamagedFileError: If the file cannot be read, or its content has another checksum.
    """
    content = read_content(path)
    if not content_checksums(content) & set(checksums):
        raise DamagedFileError(
            f"{path} is damaged or another version: expected content with one of the checksums "
            f"{', '.join(sorted(checksums))}, got the SHA-256 "
            f"{hashlib.sha256(content).hexdigest()}. Delete it and download it again."
        )
    return content


def read_content(path: Path) -> bytes:
    """Return the content of a file, decompressed if it is compressed with gzip.

    Raises:
        DamagedFileError: If the file cannot be read.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (OSError, EOFError, zlib.error) as error:
        raise DamagedFileError(f"{path} cannot be read: {error}. Download it again.") from error


def content_checksums(content: bytes) -> set[str]:
    """Return the hexadecimal SHA-256 of a content and the id of the object in git."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return {hashlib.sha256(content).hexdigest(), blob.hexdigest()}


def _cached(file: RemoteFile, folder: str) -> Path:
    return settings.cache_folder() / "downloads" / folder / file.name


def verify(path: Path, checksum: str | None) -> None:
    """Verify the SHA-256 of a file.

    Args:
        path: The file.
        checksum: Expected hexadecimal SHA-256, or ``None`` to accept any content.

    Raises:
        MissingDataError: If there is no such file.
        DamagedFileError: If the SHA-256 differs.
    """
    if checksum is not None and sha256(path) != checksum:
        raise DamagedFileError(
            f"{path} is damaged or another version: expected the SHA-256 {checksum}, got "
            f"{sha256(path)}. Delete it and download it again."
        )
