"""Identity of a collection: its fingerprint, its origin, and a name that is safe in dataset ids."""

import hashlib
import re
import unicodedata

from crystal_gym.errors import CollectionMismatchError

# Digits of a SHA-256 that messages, tables and dataset cards show.
_SHOWN = 12
# Digits of the SHA-256 that distinguishes names.
_SUFFIX = 8
# Maximum length of a name without the suffix, so that files with longer prefixes can be created.
_LONGEST_NAME = 80
# Minari takes every folder with an entry `data` for a dataset. The others are devices of Windows.
_RESERVED = {"data", "con", "prn", "aux", "nul"}


def short_fingerprint(sha256: str) -> str:
    """Return the first 12 digits of a SHA-256, for display."""
    return sha256[:_SHOWN]


def describe_crystals(origin: str | None, sha256: str | None) -> str:
    """Return the origin and the short fingerprint of a collection, for messages.

    Args:
        origin: Name or path of the collection; ``None`` if it has none.
        sha256: Fingerprint of the collection; ``None`` if none was recorded.
    """
    fingerprint = (
        "no recorded SHA-256" if sha256 is None else f"SHA-256 {short_fingerprint(sha256)}"
    )
    return f"{origin or 'a collection without a path'} ({fingerprint})"


def require_same_crystals(
    subject: str,
    recorded: tuple[str | None, str | None],
    given: tuple[str | None, str],
    remedy: str,
) -> None:
    """Verify that something was built from given crystals.

    Args:
        subject: What was built, such as ``the dataset crystal-gym/toy/expert-train-v0``.
        recorded: Origin and fingerprint of the crystals from which it was built.
        given: Origin and fingerprint of the given crystals.
        remedy: What to do, as sentences.

    Raises:
        CollectionMismatchError: If the fingerprints differ or none was recorded; the message names
            both origins.
    """
    if recorded[1] != given[1]:
        raise CollectionMismatchError(
            f"Expected {subject} to belong to the crystals of {describe_crystals(*given)}, got one "
            f"that belongs to the crystals of {describe_crystals(*recorded)}. {remedy}"
        )


def readable(text: str) -> str:
    """Return a text from a file name with its bytes decoded as UTF-8.

    Python represents the bytes of a file name that the locale cannot decode as surrogates, which
    no file format stores.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def safe_name(name: str, default: str) -> str:
    """Return a name of ASCII letters, digits, hyphens and underscores, for dataset ids and files.

    Other characters become hyphens. A name that changes, or that Minari reserves, gets a suffix
    with a hash of the original name, so that different names stay different.

    Args:
        name: The original name.
        default: Replacement if no character is left.
    """
    name = unicodedata.normalize("NFC", readable(name))
    safe = re.sub(r"[^-a-zA-Z0-9_]+", "-", name).strip("-")[:_LONGEST_NAME]
    if safe == name and safe.lower() not in _RESERVED:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"{safe or default}-{digest[:_SUFFIX]}"
