"""The folder of a Minari dataset, which is complete or absent."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from minari.namespace import create_namespace, list_local_namespaces
from minari.storage import get_dataset_path

from crystal_gym.errors import CrystalGymError, StorageError

# Seconds since its last change after which a staging folder is attributed to a killed process.
_ABANDONED_AFTER = 3600


@contextlib.contextmanager
def staged_folder(dataset_id: str, overwrite: bool) -> Iterator[Path]:
    """Yield an empty staging folder, which becomes the dataset if the block succeeds.

    The staging folder contains an empty folder ``data``. Its name begins with a dot, so Minari does
    not list it. An existing dataset stays in place until the new one is complete.

    Args:
        dataset_id: The Minari id of the dataset.
        overwrite: Whether to replace an existing dataset.

    Raises:
        CrystalGymError: If the dataset exists and ``overwrite`` is false.
        StorageError: If the folder of Minari datasets cannot be written or the disk is full.
    """
    staging, final = None, None
    try:
        final = get_dataset_path(dataset_id)
        if final.exists() and not overwrite:
            raise CrystalGymError(
                f"Expected no dataset {dataset_id}, got one that exists at {final}. Use the "
                "existing dataset, or pass overwrite=True to replace it."
            )
        root, prefix = get_dataset_path(), f".building-{dataset_id.replace('/', '-')}-"
        _remove_abandoned(root, prefix)
        staging = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        folder = staging / "new"
        (folder / "data").mkdir(parents=True)
        yield folder
        _move_into_place(folder, final, staging / "old")
    except OSError as error:
        raise StorageError(
            f"Expected a writable folder for the dataset {dataset_id}, got the error "
            f"{_reason(error)!r} for {final or 'the folder of Minari datasets'}. Free some space "
            "or set MINARI_DATASETS_PATH to another folder, then build the dataset again. No "
            "partial dataset is left."
        ) from error
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(
            f"The dataset {dataset_id} is incomplete and was removed. Build it again with the same "
            "arguments; prepared skeletons are kept."
        )
        raise
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def _remove_abandoned(root: Path, prefix: str) -> None:
    """Remove the staging folders that killed builds of a dataset left behind."""
    for folder in root.glob(f"{prefix}*"):
        # A concurrent build may remove its staging folder during this loop.
        with contextlib.suppress(FileNotFoundError):
            changed = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
            if time.time() - changed > _ABANDONED_AFTER:
                shutil.rmtree(folder, ignore_errors=True)


def _move_into_place(folder: Path, final: Path, backup: Path) -> None:
    """Rename ``folder`` to ``final`` after moving an existing ``final`` to ``backup``.

    If the renaming fails, the existing folder is moved back.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    if not final.exists():
        folder.rename(final)
        return
    final.rename(backup)
    try:
        folder.rename(final)
    except BaseException:
        backup.rename(final)
        raise


def _reason(error: OSError) -> str:
    """Return a short description of an error; the messages of HDF5 have many lines."""
    if error.errno:
        return os.strerror(error.errno)
    return (str(error) or type(error).__name__).splitlines()[0]


def create_namespaces(dataset_id: str, description: str) -> None:
    """Register the Minari namespace of a dataset, with its description, if it is missing."""
    namespace = dataset_id.rpartition("/")[0]
    if namespace not in list_local_namespaces():
        create_namespace(namespace, description=description)
