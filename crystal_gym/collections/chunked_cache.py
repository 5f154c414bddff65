"""Properties of crystals that are computed in parallel, in chunks, and cached on disk."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.collections.preparation import load_arrays, save_arrays
from crystal_gym.errors import DamagedFileError
from crystal_gym.utils import settings
from crystal_gym.utils.identity import safe_name
from crystal_gym.utils.parallel import map_in_order
from crystal_gym.utils.progress import progress_bar

# Number of crystals in one file; an interruption loses at most one chunk of each process.
CHUNK = 256
# Up to this number of crystals, one process is faster than starting worker processes.
SERIAL_LIMIT = 512

_Arrays = dict[str, np.ndarray]


def cached_chunks(
    collection: CrystalCollection,
    rows: np.ndarray,
    compute: Callable[..., _Arrays],
    arguments: Callable[[CrystalCollection, np.ndarray], tuple],
    is_valid: Callable[[np.ndarray, Mapping[str, np.ndarray]], bool],
    *,
    folder: str,
    identity: list,
    title: str,
    progress: bool,
) -> list[tuple[np.ndarray, _Arrays]]:
    """Compute properties of the chunks of crystals that contain some rows, or load them.

    The cached files belong to the fingerprint of the collection. An interrupted computation resumes
    from the finished files.

    Args:
        collection: The crystals.
        rows: Rows of the collection, int64 (S,).
        compute: Computes the arrays of a chunk from ``arguments(collection, rows)``, also in a
            worker process.
        arguments: Returns the arguments of ``compute`` for the rows of a chunk.
        is_valid: Returns whether loaded arrays have the names and shapes of the arrays of a chunk.
        folder: Subfolder of the cache.
        identity: Numbers and strings on which the arrays depend, besides the crystals.
        title: Title of the progress bar.
        progress: Show a progress bar.

    Returns:
        The rows and the arrays of each chunk.

    Raises:
        DamagedFileError: If a cached file is damaged or belongs to other crystals.
        StorageError: If the cache folder cannot be written.
    """
    # Crystals of one split are in the same chunks.
    order = np.argsort(collection.splits, kind="stable")
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    numbers = np.unique(position[rows] // CHUNK).tolist()
    chunks = {i: order[i * CHUNK : (i + 1) * CHUNK] for i in numbers}
    content = json.dumps([CHUNK, *identity, collection.fingerprint()])
    key = hashlib.sha256(content.encode()).hexdigest()[:16]
    place = settings.cache_folder() / folder / f"{safe_name(collection.name, 'crystals')}-{key}"
    done = {}
    for i, chunk in chunks.items():
        if (path := place / f"{i:05}.npz").is_file():
            done[i] = _load(path, collection, chunk, is_valid)
    missing = {i: arguments(collection, chunk) for i, chunk in chunks.items() if i not in done}
    for i, arrays in _run(missing, {i: len(chunks[i]) for i in missing}, compute, title, progress):
        save_arrays(place / f"{i:05}.npz", {**arrays, **_origin(collection, chunks[i])})
        done[i] = arrays
    return [(chunk, done[i]) for i, chunk in chunks.items()]


def _origin(collection: CrystalCollection, rows: np.ndarray) -> _Arrays:
    """Return the arrays by which a cached file is verified."""
    return {"fingerprint": np.array(collection.fingerprint()), "rows": rows}


def _load(
    path: Path,
    collection: CrystalCollection,
    rows: np.ndarray,
    is_valid: Callable[[np.ndarray, Mapping[str, np.ndarray]], bool],
) -> _Arrays:
    """Load and verify the arrays of a chunk."""
    arrays = load_arrays(path)
    origin = _origin(collection, rows)
    found = {name: arrays.pop(name, np.empty(0)) for name in origin}
    same = all(np.array_equal(found[name], value) for name, value in origin.items())
    if not (same and is_valid(rows, arrays)):
        raise DamagedFileError(
            f"Expected properties of {len(rows)} crystals of {collection.name!r} in {path}, got "
            "other content. Delete it; the next use computes it again."
        )
    return arrays


def _run(
    jobs: dict[int, tuple],
    sizes: dict[int, int],
    compute: Callable[..., _Arrays],
    title: str,
    progress: bool,
) -> Iterable[tuple[int, _Arrays]]:
    """Yield the number and the arrays of each chunk when it is finished."""
    total = sum(sizes.values())
    if total <= SERIAL_LIMIT:
        yield from ((i, compute(*job)) for i, job in jobs.items())
        return
    with progress_bar(title, total, shown=progress) as advance:
        for i, arrays in zip(jobs, map_in_order(compute, jobs.values()), strict=True):
            advance(sizes[i])
            yield i, arrays
