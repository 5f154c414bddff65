"""Names of splits in files, folders and columns."""

from crystal_gym.collections.collection import SPLITS

_SYNONYMS = {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "development": "val",
    "testing": "test",
}


def split_of(name: str) -> str | None:
    """Return the split with a name or synonym in any case, or ``None`` if there is none."""
    name = name.strip().lower()
    return name if name in SPLITS else _SYNONYMS.get(name)
