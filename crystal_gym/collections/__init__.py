"""Crystal collections by name, file or folder: one file per source."""

from crystal_gym.collections.registry import (
    COLLECTIONS,
    SPLIT_BY,
    canonical_origin,
    describe_collection,
    load_collection,
)

__all__ = ["COLLECTIONS", "SPLIT_BY", "canonical_origin", "describe_collection", "load_collection"]
