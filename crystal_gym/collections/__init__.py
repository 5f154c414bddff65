"""Crystal collections by name, file, folder or list of structures; one module per origin."""

from crystal_gym.collections.registry import (
    COLLECTIONS,
    canonical_origin,
    describe_collection,
    load_collection,
)
from crystal_gym.collections.split_kinds import SPLIT_BY, canonical_split_by, is_split_file

__all__ = [
    "COLLECTIONS",
    "SPLIT_BY",
    "canonical_origin",
    "canonical_split_by",
    "describe_collection",
    "is_split_file",
    "load_collection",
]
