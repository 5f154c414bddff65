"""The crystals that a policy was trained on, compared with other crystals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crystal_gym.collections import COLLECTIONS, is_split_file
from crystal_gym.errors import CollectionMismatchError, CrystalGymError
from crystal_gym.utils.identity import describe_crystals

if TYPE_CHECKING:
    from crystal_agents.policies.policy import PolicyConfig
    from crystal_datasets.transitions import Transitions
    from crystal_gym.collections.collection import CrystalCollection

# Item of a training record: one fingerprint, or a list of several for combined datasets.
FINGERPRINT = "collection_sha256"


def fingerprint_record(data: "Transitions") -> dict[str, str | list[str]]:
    """Return the item of a training record with the fingerprints of the crystals."""
    fingerprints = list(data.collections)
    if not fingerprints:
        return {}
    return {FINGERPRINT: fingerprints[0] if len(fingerprints) == 1 else fingerprints}


@dataclass(frozen=True)
class TrainingStage:
    """The crystals of one stage of a policy's training.

    Attributes:
        origin: Name or absolute path of the collection.
        split_by: Kind of its splits, as ``canonical_split_by`` returns it.
        fingerprints: Fingerprints of the crystals; empty if none was recorded.
    """

    origin: str
    split_by: str
    fingerprints: tuple[str, ...]

    def describe(self) -> str:
        """Return the origin and the short fingerprints, for messages."""
        found = [describe_crystals(self.origin, sha256) for sha256 in self.fingerprints]
        return " and ".join(found) or describe_crystals(self.origin, None)


def training_stages(config: "PolicyConfig") -> list[TrainingStage]:
    """Return the stages of a policy's training that name a collection, in temporal order."""
    return [_stage(record) for record in config.training_records]


def _stage(record: dict[str, Any]) -> TrainingStage:
    found = record.get(FINGERPRINT)
    listed = found if isinstance(found, list) else [found]
    fingerprints = tuple(sha256 for sha256 in listed if isinstance(sha256, str))
    return TrainingStage(record["collection"], record.get("split_by", "origin"), fingerprints)


def compare_crystals(
    config: "PolicyConfig",
    name: str,
    collection: "CrystalCollection",
    *,
    origin: str,
    split_by: str,
    load: "Callable[[str], CrystalCollection]",
    any_splits: bool = False,
) -> str | None:
    """Compare the crystals of a policy's training with those of a collection.

    Args:
        config: Configuration of the policy.
        name: Name or folder of the policy, for messages.
        collection: The crystals, already split.
        origin: Name or absolute path of the collection.
        split_by: Kind of its splits.
        load: Function that returns the same collection with splits of a given kind.
        any_splits: Whether the policy may have been trained on other splits of the collection.

    Returns:
        A sentence on the policy's training on other crystals, for the report; ``None`` if it was
        trained on these crystals or on none.

    Raises:
        CollectionMismatchError: If the crystals have the origin of the training, but have changed
            since; or if they are those of the training, split in another way.
    """
    given = collection.fingerprint()
    others: list[TrainingStage] = []
    for stage in training_stages(config):
        if given in stage.fingerprints:  # also from a moved file
            continue
        trained = given if stage.split_by == split_by else _as_trained(stage, origin, load)
        if trained in stage.fingerprints:
            if not any_splits:
                raise _other_splits(name, stage, split_by)
        elif stage.origin != origin:
            others.append(stage)
        elif stage.fingerprints:
            raise _changed_crystals(name, stage, describe_crystals(origin, trained))
        elif origin not in COLLECTIONS:  # the files of named collections cannot change
            others.append(stage)
    if not others:
        return None
    listed = " and ".join(dict.fromkeys(stage.describe() for stage in others))
    return (
        f"{name} was trained on {listed}, and it is unknown which of the crystals of "
        f"{describe_crystals(origin, given)} it has seen in its training."
    )


def _as_trained(
    stage: TrainingStage, origin: str, load: "Callable[[str], CrystalCollection]"
) -> str | None:
    """Return the fingerprint of the evaluated crystals in the splits of a training stage.

    It is ``None`` for the split file of another collection, which does not fit these crystals.
    """
    try:
        return load(stage.split_by).fingerprint()
    except CrystalGymError:
        if stage.origin == origin or not is_split_file(stage.split_by):
            raise
        return None


def _other_splits(name: str, stage: TrainingStage, split_by: str) -> CollectionMismatchError:
    return CollectionMismatchError(
        f"Expected splits by {stage.split_by}, got splits by {split_by}: {name} was trained on "
        f"these crystals, {stage.describe()}, and has seen crystals that splits by {split_by} hold "
        f"out. Pass --split-by {stage.split_by}."
    )


def _changed_crystals(name: str, stage: TrainingStage, given: str) -> CollectionMismatchError:
    return CollectionMismatchError(
        f"Expected the crystals on which {name} was trained, {stage.describe()}, got {given}: they "
        "have changed since, so crystals of the training can be held out now. Restore the original "
        "files or train the policy again. To use the present crystals as another collection, pass "
        "a copy in another folder with --collection."
    )
