"""FIXDOC."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from minari.namespace import create_namespace, list_local_namespaces
from minari.storage import get_dataset_path

from crystal_gym.errors import CrystalGymError, StorageError

if TYPE_CHECKING:
    from crystal_gym.rewards.registry import RewardLike

    # A name of ``crystal_gym.rewards.REWARDS``, or a name of your own and what ``resolve_reward``
    # takes: ``("halves", {"match": 0.5, "validity": 0.5})``.
    NamedReward = str | tuple[str, RewardLike]


# A hidden building folder that nobody has touched for so long (s) was left by a killed process.
_ABANDONED = 3600


@contextlib.contextmanager
def staged_folder(name: str, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder with a sub-folder ``data``; it becomes data set ``name`` at the end.

    Minari passes over hidden folders when it lists data sets. An existing data set is only moved
    away when the new one is complete.
    """
    building, final = None, None
    try:
        final = get_dataset_path(name)
        if final.exists() and not overwrite:
            raise CrystalGymError(
                f"The data set {name} exists at {final}. Use it as it is, or pass overwrite=True: "
                "it is then replaced once the new one is complete."
            )
        root, prefix = get_dataset_path(), f".building-{name.replace('/', '-')}-"
        remove_abandoned(root, prefix)
        building = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        folder = building / "new"
        (folder / "data").mkdir(parents=True)
        yield folder
        replace_folder(folder, final, building / "old")
    except OSError as error:
        raise StorageError(
            f"Cannot write the data set {name} to {final or 'its folder'} "
            f"({_reason(error)}). Free some space or set MINARI_DATASETS_PATH to another "
            "folder, then build it again; nothing half-made is left."
        ) from error
    except KeyboardInterrupt as stop:
        stop.add_note(
            f"{name} is not complete, and nothing half-made is left. Build it again in the same "
            "way; prepared skeletons are kept."
        )
        raise
    finally:
        if building is not None:
            shutil.rmtree(building, ignore_errors=True)


def replace_folder(folder: Path, final: Path, aside: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    if not final.exists():
        folder.rename(final)
        return
    final.rename(aside)
    try:
        folder.rename(final)
    except BaseException:
        aside.rename(final)
        raise


def remove_abandoned(root: Path, prefix: str) -> None:
    """Remove what killed builds of this data set left."""
    for left in root.glob(f"{prefix}*"):
        # Another build may just be finishing.
        with contextlib.suppress(FileNotFoundError):
            touched = max(path.stat().st_mtime for path in (left, *left.rglob("*")))
            if time.time() - touched > _ABANDONED:
                shutil.rmtree(left, ignore_errors=True)


def create_namespaces(name: str, description: str) -> None:
    namespace = name.rpartition("/")[0]
    if namespace not in list_local_namespaces():
        create_namespace(namespace, description=description)


def _reason(error: OSError) -> str:
    """In short; HDF5 tells whole stories."""
    if error.errno:
        return os.strerror(error.errno)
    return (str(error) or type(error).__name__).splitlines()[0]
