"""From crystals to the arrays of a collection: in parallel, cached, and resumable."""

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from crystal_gym.collections.collection import ARRAYS, CollectionArrays, CrystalCollection
from crystal_gym.crystals.neighbors import breadth_first_from_all
from crystal_gym.crystals.skeleton import split_structure
from crystal_gym.errors import BadCrystalError, CrystalGymError, DamagedFileError
from crystal_gym.utils import settings
from crystal_gym.utils.files import atomic_write
from crystal_gym.utils.progress import progress_bar

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Raise when the prepared arrays would come out differently, or when CHUNK changes.
FORMAT = 1
# Crystals prepared and saved together; what an interruption can lose.
CHUNK = 256
# Fewer crystals than this are done before worker processes would have started.
SERIAL_LIMIT = 64
# How the names of label arrays begin in a prepared file.
_LABEL = "label "

# A rule that tells a structure's site order; None sorts by coordinates.
SiteOrder = Callable[["Structure"], np.ndarray] | None


def file_order(structure: "Structure") -> np.ndarray:
    """Keep the sites as the source lists them; only right where that order is geometric."""
    return np.arange(len(structure))


@dataclass(frozen=True)
class RawCrystal:
    """A crystal as its source gives it.

    Attributes:
        id: the source's identifier.
        split: ``train``, ``val`` or ``test``.
        content: text of a CIF or POSCAR, or a pymatgen ``Structure``.
        format: ``cif``, ``poscar`` or ``structure``.
        where: for error messages, like ``train.csv, row 17``.
        labels: properties by name.
    """

    id: str
    split: str
    content: "str | Structure"
    format: str
    where: str
    labels: Mapping[str, float] = field(default_factory=dict)

    def structure(self) -> "Structure":
        """The parsed structure, sites as in the source.

        Raises:
            BadCrystalError: the text cannot be read as one crystal.
        """
        if not isinstance(self.content, str):
            return self.content
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if self.format == "cif":
                    return _read_cif(self.content)
                from pymatgen.core import Structure

                return Structure.from_str(self.content, self.format)  # type: ignore[arg-type] - a Literal
        except BadCrystalError:
            raise
        except Exception as error:  # pymatgen's parsers raise whatever they stumble over
            raise BadCrystalError(f"no readable {self.format.upper()}: {error}") from error


def _read_cif(text: str) -> "Structure":
    """The one structure of a CIF; where there is none, the error tells pymatgen's reasons."""
    from pymatgen.io.cif import CifParser

    parser = CifParser.from_str(text)
    try:
        structures = parser.parse_structures(primitive=False)
    except ValueError as error:
        reasons = " ".join([str(error), *parser.warnings])
        raise ValueError(reasons.replace("\n", " ")) from error
    if len(structures) > 1:
        raise BadCrystalError(f"The CIF holds {len(structures)} crystals; give each its own.")
    return structures[0]


def collection_name(path: Path) -> str:
    """A collection's name after its file or folder: letters, digits, hyphens and underscores.

    The ids of data sets, which allow nothing else, are made from it.
    """
    stem = re.sub(r"\.cif$", "", path.resolve().name, flags=re.IGNORECASE)
    stem = stem.removesuffix(".gz").removesuffix(".csv")
    return re.sub(r"[^-a-zA-Z0-9_]+", "-", stem).strip("-") or "crystals"


def prepare(
    raw: Sequence[RawCrystal],
    order: SiteOrder = None,
    max_sites: int | None = None,
    parts: Path | None = None,
    progress: bool = True,
) -> CollectionArrays:
    """The padded arrays of a collection (all fields that do not come from a name or a label).

    Args:
        raw: the crystals.
        order: rule for the site order.
        max_sites: refuse larger cells.
        parts: folder in which finished chunks are kept, so that a stopped run goes on from there.
        progress: show a progress bar when worker processes are used.

    Raises:
        BadCrystalError: a crystal cannot be used; the message begins with its place.
    """
    if not raw:
        raise CrystalGymError("There are no crystals to prepare.")
    chunks = [raw[start : start + CHUNK] for start in range(0, len(raw), CHUNK)]
    done: dict[int, dict[str, np.ndarray]] = {}
    if parts is not None:
        done = {i: part for i in range(len(chunks)) if (part := _load_part(parts, i)) is not None}
    missing = [i for i in range(len(chunks)) if i not in done]
    for i, part in _run(
        [(i, chunks[i], order, max_sites) for i in missing], len(raw), len(chunks), progress
    ):
        if parts is not None:
            save_arrays(parts / f"{i:05}.npz", part)
        done[i] = part
    flat = {key: np.concatenate([done[i][key] for i in range(len(chunks))]) for key in done[0]}
    return {
        "ids": np.array([crystal.id for crystal in raw]),
        "splits": np.array([crystal.split for crystal in raw]),
        "n_sites": flat["n_sites"],
        "atomic_numbers": _pad(flat["atomic_numbers"], flat["n_sites"], 0),
        "parameters": flat["parameters"],
        "frac_coords": _pad(flat["frac_coords"], flat["n_sites"], 0),
        "edges": _pad(flat["edges"], flat["n_edges"], -1),
        "traversals": _traversals(flat),
    }


def prepared_collection(
    name: str,
    checksum: str,
    read: Callable[[], Sequence[RawCrystal]],
    *,
    order: SiteOrder = None,
    max_sites: int | None = None,
    description: str = "",
    progress: bool = True,
) -> CrystalCollection:
    """A collection from the cache, or prepared now and kept there.

    Args:
        name: the collection's name.
        checksum: of everything that ``read`` reads.
        read: gives the raw crystals; called only when they must be prepared.
        order: rule for the site order.
        max_sites: refuse larger cells.
        description: what these crystals are.
        progress: show a progress bar.

    Raises:
        DamagedFileError: the cached file is damaged.
        BadCrystalError: a crystal cannot be used.
        StorageError: the cache folder cannot be written.
    """
    rule = order.__name__ if order else "geometric"
    key = hashlib.sha256(json.dumps([FORMAT, checksum, rule, max_sites]).encode()).hexdigest()[:16]
    path = settings.cache_folder() / "prepared" / f"{name}-{key}.npz"
    if not path.is_file():
        parts = path.with_suffix(".parts")
        raw = read()
        arrays = prepare(raw, order, max_sites, parts, progress)
        names = sorted({label for crystal in raw for label in crystal.labels})
        labels = {
            _LABEL + label: np.array([crystal.labels.get(label, np.nan) for crystal in raw])
            for label in names
        }
        save_arrays(path, {**arrays, **labels})
        shutil.rmtree(parts, ignore_errors=True)
    return load_prepared(path, name, description)


def load_prepared(path: Path, name: str, description: str) -> CrystalCollection:
    """The collection whose arrays and labels a file holds.

    Raises:
        DamagedFileError: the file is truncated, altered or not such a file.
    """
    arrays = load_arrays(path)
    labels = {key: arrays.pop(key) for key in list(arrays) if key.startswith(_LABEL)}
    if set(arrays) != set(ARRAYS):
        raise DamagedFileError(
            f"{path} is damaged: it holds {', '.join(arrays)}. Delete it; it is made again."
        )
    return CrystalCollection(
        name=name,
        **cast(CollectionArrays, arrays),
        labels={key.removeprefix(_LABEL): values for key, values in labels.items()},
        description=description,
    )


def save_arrays(path: Path, arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Write arrays to an ``.npz`` that is whole or absent."""
    save = np.savez_compressed if compressed else np.savez
    with atomic_write(path) as beside, beside.open("wb") as file:
        save(file, **arrays)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read what ``save_arrays`` wrote; each member's CRC is checked, nothing is unpickled.

    Raises:
        DamagedFileError: truncated or altered.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # a damaged byte can fail anywhere in zipfile, zlib and numpy
        raise DamagedFileError(
            f"{path} is damaged ({error}). Delete it; it is made again at the next use."
        ) from error


def _load_part(parts: Path, i: int) -> dict[str, np.ndarray] | None:
    """A finished chunk, or ``None`` where there is none or it is damaged."""
    try:
        return load_arrays(parts / f"{i:05}.npz")
    except (FileNotFoundError, DamagedFileError):
        return None


def _run(
    jobs: list[tuple], total: int, n_chunks: int, progress: bool
) -> Iterable[tuple[int, dict[str, np.ndarray]]]:
    if sum(len(job[1]) for job in jobs) <= SERIAL_LIMIT:
        yield from (_prepare_chunk(*job) for job in jobs)
        return
    import joblib

    with progress_bar("Preparing skeletons", total, shown=progress) as advance:
        advance(total - sum(len(job[1]) for job in jobs))
        # More, smaller jobs than workers: all cores are busy until the end.
        size = max(1, CHUNK // 8) if n_chunks < 8 else CHUNK
        pieces = [(i, c[k : k + size], o, m) for i, c, o, m in jobs for k in range(0, len(c), size)]
        waiting: dict[int, list] = {job[0]: [] for job in jobs}
        wanted = {job[0]: len(job[1]) for job in jobs}
        with joblib.Parallel(n_jobs=-1, return_as="generator") as parallel:
            results: Any = parallel(joblib.delayed(_prepare_chunk)(*piece) for piece in pieces)
            for i, part in results:
                advance(len(part["n_sites"]))
                waiting[i].append(part)
                if sum(len(p["n_sites"]) for p in waiting[i]) == wanted[i]:
                    done = waiting.pop(i)
                    yield i, {key: np.concatenate([p[key] for p in done]) for key in part}


def _prepare_chunk(
    i: int, chunk: Sequence[RawCrystal], order: SiteOrder, max_sites: int | None
) -> tuple[int, dict[str, np.ndarray]]:
    skeletons, elements = [], []
    for crystal in chunk:
        try:
            structure = crystal.structure()
            rule = order(structure) if order and len(structure) else None
            skeleton, numbers = split_structure(structure, rule, max_sites)
        except BadCrystalError as error:
            raise BadCrystalError(f"{crystal.where} (crystal {crystal.id!r}): {error}") from None
        skeletons.append(skeleton)
        elements.append(numbers)
    return i, {
        "n_sites": np.array([skeleton.n_sites for skeleton in skeletons], np.int32),
        "n_edges": np.array([len(skeleton.edges) for skeleton in skeletons], np.int32),
        "atomic_numbers": np.concatenate(elements).astype(np.int16),
        "parameters": np.stack([skeleton.parameters for skeleton in skeletons]),
        "frac_coords": np.concatenate([skeleton.frac_coords for skeleton in skeletons]),
        "edges": np.concatenate([skeleton.edges for skeleton in skeletons]),
    }


def _pad(flat: np.ndarray, counts: np.ndarray, value: float) -> np.ndarray:
    """Rows of ``flat``, ``counts`` of them to each crystal, as (C, counts.max(), …)."""
    padded = np.full((len(counts), int(counts.max()), *flat.shape[1:]), value, flat.dtype)
    padded[np.arange(padded.shape[1]) < counts[:, None]] = flat
    return padded


def _traversals(flat: dict[str, np.ndarray]) -> np.ndarray:
    n_max = int(flat["n_sites"].max())
    traversals = np.full((len(flat["n_sites"]), n_max, n_max), -1, np.int16)
    ends = np.cumsum(flat["n_edges"])
    for row, (n, start, end) in enumerate(
        zip(flat["n_sites"], ends - flat["n_edges"], ends, strict=True)
    ):
        traversals[row, :n, :n] = breadth_first_from_all(flat["edges"][start:end], n)
    return traversals
