"""Errors of the file system as ``StorageError``, with advice that fits their cause."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from crystal_gym.errors import CrystalGymError, StorageError

_FULL = "Free some space on this disk, or choose a folder on another one."
_DENIED = "Change the permissions of the folder, or choose another one."
_NO_FOLDER = "Check the path: one of its parts is a file or a broken link instead of a folder."
_ADVICE = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: "The file system is read-only. Choose a folder on another one.",
    errno.ENOENT: "The folder does not exist and could not be created, or it was deleted. Check "
    "the path and its links.",
    errno.ENOTDIR: _NO_FOLDER,
    errno.EEXIST: _NO_FOLDER,
    errno.EISDIR: "Choose another path, or move this folder away.",
    errno.ENAMETOOLONG: "Choose a shorter name or another folder.",
    errno.ELOOP: "Check the symbolic links of the path, or choose another folder.",
}
_OTHER = "Check the space on the disk and the permissions, or choose another folder."

# Libraries that write files in compiled code report the error number in the text of their errors.
_NUMBER_IN_TEXT = re.compile(r"(?:os error|errno =|\[Errno) (\d+)")
_FAILED_IN_TEXT = ("PytorchStreamWriter failed", "file write failed", "unexpected pos")


@contextlib.contextmanager
def storage_errors(path: Path, hint: str = "") -> Iterator[None]:
    """Replace errors of the file system inside the block by ``StorageError``.

    Errors that PyTorch, safetensors and HDF5 raise when they cannot write are included.

    Args:
        path: The file or folder that the block writes.
        hint: A sentence to append to the advice, such as the setting of the folder.

    Raises:
        StorageError: If the block cannot write; the message gives the cause and fitting advice.
    """
    try:
        yield
    except CrystalGymError:
        raise
    except Exception as error:
        number = _error_number(error)
        if not isinstance(error, OSError) and number is None:
            raise
        reason = os.strerror(number) if number else _first_line(error)
        advice = _ADVICE.get(number or 0, _OTHER)
        message = f"Cannot write {path}: {reason}{_place(error, path)}. {advice} {hint}"
        raise StorageError(message.strip()) from error


def _error_number(error: BaseException) -> int | None:
    """Return the number of the system error behind an exception; ``None`` if there is none.

    It is 0 if a library only states that it failed to write.
    """
    if isinstance(error, OSError) and error.errno:
        return error.errno
    text = str(error)
    found = _NUMBER_IN_TEXT.search(text)
    if found:
        return int(found.group(1))
    if not isinstance(error, OSError) and isinstance(error.__context__, OSError):
        # A file object that fails again when it is closed, such as a ZIP file.
        return _error_number(error.__context__)
    return 0 if any(part in text for part in _FAILED_IN_TEXT) else None


def _place(error: BaseException, path: Path) -> str:
    """Return the file of an error in parentheses if it is not in the folder that is written."""
    file = getattr(error, "filename", None)
    if not isinstance(file, str) or Path(file).is_relative_to(path.parent):
        return ""
    return f" ({file})"


def _first_line(error: BaseException) -> str:
    """Return a short description of an error; the messages of HDF5 have many lines."""
    if not isinstance(error, OSError):
        return "a write failed, as on a full disk"
    return (str(error) or type(error).__name__).splitlines()[0]
