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

from crystal_gym.errors import CrystalGymError
from crystal_gym.utils.storage_errors import storage_errors

# Minari's setting of the folder of all datasets.
DATASETS_VARIABLE = "MINARI_DATASETS_PATH"
_HINT = f"{DATASETS_VARIABLE} sets the folder of datasets."
# Seconds since its last change after which a staging folder is attributed to a killed process.
_ABANDONED_AFTER = 3600


def dataset_path(dataset_id: str | None = None) -> Path:
    """Return the absolute folder of a dataset, or of all datasets, which is created.

    Minari reads ``MINARI_DATASETS_PATH`` without expanding ``~``, and some of its functions fail
    for relative paths. The variable is therefore replaced by the absolute path, which all later
    calls of Minari in this process use.

    Args:
        dataset_id: The Minari id of the dataset (default: the folder of all datasets).

    Raises:
        StorageError: If the folder of all datasets cannot be created.
    """
    value = os.environ.get(DATASETS_VARIABLE)
    if value:
        os.environ[DATASETS_VARIABLE] = str(Path(value).expanduser().resolve())
    elif value is not None:  # Minari would take an empty value for the working directory
        del os.environ[DATASETS_VARIABLE]
    with storage_errors(Path(value or "~/.minari/datasets"), _HINT):
        return get_dataset_path(dataset_id)


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
    root, final = dataset_path(), dataset_path(dataset_id)
    staging = None
    with storage_errors(root, f"{_HINT} No partial dataset is left."):
        try:
            if final.exists() and not overwrite:
                raise CrystalGymError(
                    f"Expected no dataset {dataset_id}, got one that exists at {final}. Use the "
                    "existing dataset, or pass overwrite=True to replace it."
                )
            prefix = f".building-{dataset_id.replace('/', '-')}-"
            _remove_abandoned(root, prefix)
            staging = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
            folder = staging / "new"
            (folder / "data").mkdir(parents=True)
            yield folder
            _move_into_place(folder, final, staging / "old")
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(
                f"The dataset {dataset_id} is incomplete and was removed. Build it again with the "
                "same arguments; prepared skeletons are kept."
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


def create_namespaces(dataset_id: str, description: str) -> None:
    """Register the Minari namespace of a dataset, with its description, if it is missing."""
    namespace = dataset_id.rpartition("/")[0]
    if namespace not in list_local_namespaces():
        create_namespace(namespace, description=description)
