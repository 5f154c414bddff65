"""Loading of the transitions of one split of a collection."""

from typing import TYPE_CHECKING

from crystal_gym.errors import MissingDataError

if TYPE_CHECKING:
    from crystal_datasets.task import DatasetTask
    from crystal_datasets.transitions import Transitions
    from crystal_gym.collections.collection import CrystalCollection


def load_split(
    collection: "CrystalCollection",
    origin: str,
    split: str,
    *,
    split_by: str = "origin",
    behavior: str = "expert",
    reward: str = "match",
    task: "DatasetTask | None" = None,
    trajectories: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> "Transitions":
    """Load the dataset of one split of a collection as flat transitions.

    Args:
        collection: The crystals, already split.
        origin: Name or path of the collection, for the command in the error message.
        split: ``train``, ``val`` or ``test``.
        split_by: Kind of the splits, for the command in the error message.
        behavior: The behavior policy that generated the episodes.
        reward: The reward stored with the transitions.
        task: The task of the dataset (default: filling empty skeletons).
        trajectories: Number of trajectories of each crystal; ``None`` loads all of them.
        seed: Seed of the choice of trajectories.
        progress: Whether to show a progress bar.

    Raises:
        MissingDataError: If the dataset is not built; the message contains the command that builds
            it.
        DamagedFileError: If the dataset cannot be read.
        CollectionMismatchError: If the dataset was built from other crystals than those of the
            collection; the message names both origins.
    """
    from crystal_datasets import dataset_id, load_transitions
    from crystal_datasets.dataset_metadata import identify, read_metadata, require_collection
    from crystal_datasets.minari_writer import origin_of
    from crystal_datasets.task import EMPTY_SKELETONS

    name = dataset_id(collection.name, split, behavior, reward, task=task or EMPTY_SKELETONS)
    command = _build_command(origin, split, split_by, behavior, reward) + _task_options(task)
    try:
        # Compared before the dataset is read, which can take minutes.
        require_collection(
            name,
            identify(name, read_metadata(name)).collections,
            origin_of(origin),
            collection,
            "The name of the file or folder is part of the dataset's id: rename one of them, or "
            f"replace the dataset with `{_replace_command(name, command)}`.",
        )
        return load_transitions(name, trajectories, seed, progress=progress)
    except MissingDataError as error:
        raise MissingDataError(
            f"Expected the dataset {name}, which is not built yet. Run `crystal-gym {command}` "
            "first."
        ) from error


def _replace_command(name: str, command: str) -> str:
    if command.startswith("finetune"):
        return f"minari delete {name}` and `crystal-gym {command}"
    return f"crystal-gym {command} --overwrite"


def _task_options(task: "DatasetTask | None") -> str:
    if task is None or task.start == "empty":
        return ""
    keep = task.keep
    text = ",".join(map(str, keep)) if isinstance(keep, tuple) else str(keep)
    return f" --start {task.start} --keep {text}"


def _build_command(origin: str, split: str, split_by: str, behavior: str, reward: str) -> str:
    options = "" if split_by == "origin" else f" --split-by {split_by}"
    if behavior == "replay":
        return f"finetune POLICY --collection {origin} --reward {reward} --record{options}"
    if behavior == "expert" and reward == "match":
        return f"build-dataset {origin}{options}"
    policy = " --policy POLICY" if behavior == "mixed" else ""
    return (
        f"build-dataset {origin} --behavior {behavior} --reward {reward} --splits {split}"
        f"{policy}{options}"
    )
