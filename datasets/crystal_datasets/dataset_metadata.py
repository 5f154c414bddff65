"""Metadata of a dataset: its vocabulary and the collections of its crystals."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minari.dataset.minari_storage import MinariStorage

from crystal_datasets.dataset_folder import DATASETS_VARIABLE, dataset_path
from crystal_gym.collections import SPLIT_BY
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.errors import (
    CollectionMismatchError,
    CrystalGymError,
    DamagedFileError,
    MissingDataError,
)
from crystal_gym.utils.identity import describe_crystals

# Name of the environment whose episodes the datasets contain.
ENVIRONMENT = "CrystalSkeleton-v0"
FLAT_ENVIRONMENT = "CrystalSkeletonFlat-v0"
DATA_FILE = "main_data.hdf5"


@dataclass(frozen=True)
class DatasetIdentity:
    """The vocabulary of a dataset and the collections of its crystals.

    Attributes:
        dataset_id: The Minari id.
        vocabulary: V element symbols; action ``a`` assigns the element with code ``a + 1``.
        collections: Fingerprint and origin of each collection; the origin is ``None`` for a
            collection without a name or path. There is one collection, unless Minari combined
            datasets of several; there is none if no fingerprint is known.
        parts: Ids of the datasets that Minari combined, in order; empty for other datasets.
    """

    dataset_id: str
    vocabulary: tuple[str, ...]
    collections: Mapping[str, str | None]
    parts: tuple[str, ...] = ()

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Fingerprints of the collections."""
        return tuple(self.collections)

    @property
    def origins(self) -> tuple[str | None, ...]:
        """Origins of the collections."""
        return tuple(self.collections.values())

    def describe(self) -> str:
        """Return the origins and short fingerprints of the collections, for messages."""
        return describe_collections(self.collections)


def describe_collections(collections: Mapping[str, str | None]) -> str:
    """Return the origins and short fingerprints of collections, for messages."""
    found = [describe_crystals(origin, sha256) for sha256, origin in collections.items()]
    return " and ".join(found) or describe_crystals(None, None)


def data_folder(dataset_id: str) -> Path:
    """Return the folder of a dataset's data file, which may not exist."""
    return dataset_path(dataset_id) / "data"


def read_metadata(dataset_id: str) -> dict[str, Any]:
    """Return the metadata of a dataset, as Minari stores them.

    Raises:
        MissingDataError: If there is no such dataset.
        DamagedFileError: If the metadata cannot be read or the data file is missing.
    """
    folder = data_folder(dataset_id)
    if not folder.is_dir():
        raise MissingDataError(
            f"Expected a Minari dataset {dataset_id!r} in {dataset_path()}, got none. Build it "
            f"with crystal_datasets.build_dataset, or set {DATASETS_VARIABLE} to the folder of "
            "your datasets."
        )
    try:
        metadata = MinariStorage.read_raw_metadata(folder)
        (folder / DATA_FILE).stat()
    except (ValueError, OSError) as error:
        raise damaged_dataset(dataset_id, folder, error) from error
    return metadata


def damaged_dataset(dataset_id: str, path: Path, error: Exception) -> DamagedFileError:
    """Return the error of a dataset whose files cannot be read."""
    return DamagedFileError(
        f"Expected a complete dataset {dataset_id!r}, but {path} is damaged or incomplete "
        f"({error}). Build the dataset again with overwrite=True."
    )


def identify(dataset_id: str, metadata: Mapping[str, Any]) -> DatasetIdentity:
    """Return the identity of a dataset with these metadata.

    Raises:
        DamagedFileError: If the metadata of a combined dataset's part cannot be read.
        CrystalGymError: If the dataset was written by other software or an earlier version, or if
            Minari combined datasets with different vocabularies.
    """
    if "crystal_gym" in metadata:
        return _identify_built(dataset_id, metadata["crystal_gym"])
    if metadata.get("combined_datasets"):
        return _identify_combined(dataset_id, metadata)
    raise CrystalGymError(
        f"Expected a dataset written by crystal_datasets, got {dataset_id!r} without the "
        "section 'crystal_gym' in its metadata. Load it with minari.load_dataset."
    )


def require_dict_observations(dataset_id: str, metadata: Mapping[str, Any]) -> None:
    """Raise a ``CrystalGymError`` if the observations of a dataset are flat."""
    if json.loads(metadata.get("observation_space", "{}")).get("type") == "Box":
        raise CrystalGymError(
            f"Expected a dataset with Dict observations, got {dataset_id!r} with flat ones. Build "
            'the dataset with observations="dict"; crystal_datasets.flat_arrays makes its '
            "transitions flat."
        )


def require_no_targets(dataset_id: str, metadata: Mapping[str, Any]) -> None:
    """Raise a ``CrystalGymError`` if the observations of a dataset have targets."""
    space = json.loads(metadata.get("observation_space", "{}"))
    if "target" in space.get("subspaces", {}):
        raise CrystalGymError(
            f"Expected a dataset without targets, got {dataset_id!r}, whose observations have a "
            "`target`, which transitions do not contain. Load it with minari.load_dataset."
        )


def identify_existing(dataset_id: str) -> DatasetIdentity | None:
    """Return the identity of a dataset; ``None`` if it does not exist or cannot be identified."""
    try:
        return identify(dataset_id, read_metadata(dataset_id))
    except CrystalGymError:
        return None


def require_collection(
    dataset_id: str,
    collections: Mapping[str, str | None],
    origin: str | None,
    collection: CrystalCollection,
    remedy: str,
) -> None:
    """Verify that a dataset was built from a collection.

    Args:
        dataset_id: The Minari id of the dataset.
        collections: Fingerprint and origin of the collections from which it was built.
        origin: Name or path of the collection, for the message.
        collection: The collection.
        remedy: What to do, as sentences.

    Raises:
        CollectionMismatchError: If it was built from other crystals; the message names both
            origins.
    """
    sha256 = collection.fingerprint()
    if tuple(collections) != (sha256,):
        raise CollectionMismatchError(
            f"Expected the dataset {dataset_id} to be built from "
            f"{describe_crystals(origin or repr(collection.name), sha256)}, got one built from "
            f"{describe_collections(collections)}. {remedy}"
        )


def _identify_built(dataset_id: str, section: Mapping[str, Any]) -> DatasetIdentity:
    if section.get("split_by") == "source":
        raise CrystalGymError(
            f"Expected split_by to be one of {SPLIT_BY} in the metadata of {dataset_id!r}, got "
            "'source' of an earlier version of crystal-gym. Build the dataset again with "
            "overwrite=True."
        )
    sha256 = section.get("collection_sha256")
    # Datasets of earlier versions have no origin; the collection's name describes it.
    origin = section.get("origin") or section.get("collection")
    collections = {} if sha256 is None else {sha256: origin}
    return DatasetIdentity(dataset_id, tuple(section["vocabulary"]), collections)


def _identify_combined(dataset_id: str, metadata: Mapping[str, Any]) -> DatasetIdentity:
    """Return the identity of a combined dataset, from its environment and from its parts.

    Minari drops the metadata of the parts, which may also have been deleted or built again.
    """
    parts = tuple(metadata["combined_datasets"])
    known: dict[str, DatasetIdentity] = {}
    for part in parts:
        try:
            known[part] = identify(part, read_metadata(part))
        except MissingDataError:
            continue
    vocabularies = {name: part.vocabulary for name, part in known.items()}
    collections: dict[str, str | None] = {}
    settings = _environment_settings(metadata)
    if "vocabulary" in settings:
        vocabularies["the environment specification"] = tuple(settings["vocabulary"])
    if settings.get("collection_sha256"):
        collections[settings["collection_sha256"]] = settings.get("collection")
    for part in known.values():
        collections |= part.collections
    if len(set(vocabularies.values())) != 1:
        listed = "; ".join(f"{name}: {' '.join(found)}" for name, found in vocabularies.items())
        raise CrystalGymError(
            f"Expected one vocabulary in {dataset_id!r}, which Minari combined from "
            f"{', '.join(parts)}, got {listed or 'none, because these datasets are missing'}. "
            "Combine only datasets of one vocabulary, and keep those without an environment."
        )
    return DatasetIdentity(dataset_id, next(iter(vocabularies.values())), collections, parts)


def _environment_settings(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the environment in a dataset's metadata, empty without one."""
    text = metadata.get("env_spec")
    spec = json.loads(text) if isinstance(text, str) else {}
    return spec.get("kwargs", {}) if spec.get("id") in {ENVIRONMENT, FLAT_ENVIRONMENT} else {}
