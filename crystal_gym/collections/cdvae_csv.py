"""Collections from CSV files as CDVAE writes them: a crystal a row, its CIF in a column."""

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from crystal_gym.collections.collection import SPLITS, CrystalCollection, hash_splits
from crystal_gym.collections.preparation import (
    SiteOrder,
    collection_name,
    prepared_collection,
)
from crystal_gym.collections.raw_crystal import RawCrystal
from crystal_gym.errors import BadCrystalError, CrystalGymError, DamagedFileError, MissingDataError
from crystal_gym.utils.files import sha256

_SUFFIXES = (".csv", ".csv.gz")
# Columns that are no properties; an index column has no name or pandas' default.
_NO_LABELS = {"material_id", "cif", "split", "", "Unnamed: 0"}


def load_cdvae_csv(
    path: str | Path,
    *,
    order: SiteOrder = None,
    max_sites: int | None = None,
    progress: bool = True,
) -> CrystalCollection:
    """A collection from one CSV file, or from a folder's ``train.csv``, ``val.csv``, ``test.csv``.

    A file has the columns ``material_id`` and ``cif``; those columns in which every entry is a
    number or empty become labels. A single file may tell its splits in a column ``split``;
    without one, 80/10/10 are dealt out by a hash of the ids. All files may be gzipped
    (``.csv.gz``).

    Args:
        path: the file or folder.
        order: rule for the site order (default: by coordinates, which gives no element away).
        max_sites: refuse larger cells.
        progress: show a progress bar.

    Raises:
        MissingDataError: there is no such file, or the folder holds none of the three.
        DamagedFileError: a file cannot be read, or lacks a column.
        BadCrystalError: a row cannot be used; the message names it.
    """
    path = Path(path).expanduser()
    files: dict[str | None, Path] = {None: path}
    if path.is_dir():
        files = {
            split: path / f"{split}{suffix}"
            for split in SPLITS
            for suffix in reversed(_SUFFIXES)
            if (path / f"{split}{suffix}").is_file()
        }
    if not files:
        raise MissingDataError(
            f"{path} holds none of {', '.join(split + '.csv' for split in SPLITS)} (nor .csv.gz); "
            "name one CSV file to read it alone."
        )
    return collection_from_csv_files(
        collection_name(path), files, order=order, max_sites=max_sites, progress=progress
    )


def collection_from_csv_files(
    name: str,
    files: Mapping[str | None, Path],
    *,
    order: SiteOrder = None,
    max_sites: int | None = None,
    description: str = "",
    progress: bool = True,
) -> CrystalCollection:
    """A collection from CDVAE-format files by split; ``None`` for a file that tells its own.

    The other arguments and the errors are those of ``load_cdvae_csv``.
    """
    checksum = hashlib.sha256(
        "".join(f"{split} {sha256(path)}\n" for split, path in files.items()).encode()
    ).hexdigest()
    return prepared_collection(
        name,
        checksum,
        lambda: _read_files(files),
        order=order,
        max_sites=max_sites,
        description=description
        or f"Crystals from {', '.join(path.name for path in files.values())}.",
        progress=progress,
    )


def _read_files(files: Mapping[str | None, Path]) -> list[RawCrystal]:
    crystals: dict[str, RawCrystal] = {}
    for split, path in files.items():
        for crystal in _read_file(path, split):
            if crystal.id in crystals:
                raise CrystalGymError(
                    f"{crystal.where}: the material_id {crystal.id!r} stands already in "
                    f"{crystals[crystal.id].where}; each may occur once."
                )
            crystals[crystal.id] = crystal
    if not crystals:
        names = ", ".join(str(path) for path in files.values())
        raise DamagedFileError(f"{names}: there are no rows below the header.")
    return list(crystals.values())


def _read_file(path: Path, split: str | None) -> list[RawCrystal]:
    rows = _read_rows(path)
    labels = _number_columns(rows)
    crystals = []
    for number, row in enumerate(rows, start=1):
        where = f"{path.name}, row {number}"
        if not row["material_id"] or not row["cif"] or None in row:
            raise BadCrystalError(
                f"{where}: the row is broken; it needs an entry in material_id and in cif, and no "
                "more entries than the header."
            )
        own_split = split or row.get("split") or ""
        if own_split not in {"", *SPLITS} or (not own_split and row.get("split") is not None):
            raise CrystalGymError(
                f"{where}: the split is {own_split!r}; it must be one of {', '.join(SPLITS)}."
            )
        values = {label: column[number - 1] for label, column in labels.items()}
        crystals.append(RawCrystal(row["material_id"], own_split, row["cif"], "cif", where, values))
    if crystals and not crystals[0].split:
        splits = hash_splits([crystal.id for crystal in crystals])
        return [replace(c, split=split) for c, split in zip(crystals, splits, strict=True)]
    return crystals


def _read_rows(path: Path) -> list[dict]:
    """The rows of a plain or gzipped CSV with the columns that a crystal needs."""
    rows = []
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        header = reader.fieldnames or []
        missing = [column for column in ("material_id", "cif") if column not in header]
        if missing:
            raise DamagedFileError(
                f"{path} has no column {missing[0]!r}; its columns are {', '.join(header)}. A "
                "CDVAE-format file has material_id and cif."
            )
        for row in reader:
            rows.append(row)  # noqa: PERF402 - an error tells how many rows were read
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path} cannot be read: {error}.") from error
    except csv.Error as error:
        raise DamagedFileError(
            f"{path.name}, row {len(rows) + 1}: the CSV is broken ({error})."
        ) from error
    return rows


def _number_columns(rows: list[dict]) -> dict[str, list[float]]:
    """The columns that hold numbers, empty entries as NaN."""
    columns = {}
    for name in rows[0] if rows else ():
        if name is None or name in _NO_LABELS:
            continue
        try:
            values = [float(row[name] or "nan") for row in rows]
        except ValueError:
            continue
        if any(row[name] for row in rows):
            columns[name] = values
    return columns
