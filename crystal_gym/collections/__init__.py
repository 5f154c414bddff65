"""Crystal collections by name, file, folder or list of structures; one module per origin."""

from crystal_gym.collections.registry import (
    COLLECTIONS,
    SPLIT_BY,
    canonical_origin,
    describe_collection,
    load_collection,
)

__all__ = ["COLLECTIONS", "SPLIT_BY", "canonical_origin", "describe_collection", "load_collection"]
