"""Collections from CSV files in the format of CDVAE, with one crystal and its CIF in each row."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from crystal_gym.collections.collection import SPLITS, CrystalCollection, hash_splits
from crystal_gym.collections.csv_table import REQUIRED_COLUMNS, read_rows
from crystal_gym.collections.folder_contents import folder_contents
from crystal_gym.collections.preparation import (
    SiteOrder,
    collection_name,
    prepared_collection,
)
from crystal_gym.collections.raw_crystal import RawCrystal
from crystal_gym.collections.reading_report import warn_of_ignored_files
from crystal_gym.collections.split_names import split_of
from crystal_gym.errors import BadCrystalError, CrystalGymError, DamagedFileError, MissingDataError
from crystal_gym.utils.files import sha256

# Columns without properties. An index column has no name or the default name of pandas.
_NO_LABELS = {"material_id", "cif", "split", "", "unnamed: 0"}


def load_cdvae_csv(
    path: str | Path,
    *,
    order: SiteOrder = None,
    max_sites: int | None = None,
    on_error: str = "raise",
    progress: bool = True,
) -> CrystalCollection:
    """Load a collection from a CSV file or from a folder of CSV files.

    A folder contains one or more of ``train.csv``, ``val.csv`` and ``test.csv``; ``valid``,
    ``validation`` and ``dev`` are other names of ``val``. Each file has the columns
    ``material_id`` and ``cif``. Columns in which every entry is a number or empty become labels. A
    single file can have a column ``split``; otherwise a hash of the ids assigns 80 % of the
    crystals to ``train``, 10 % to ``val`` and 10 % to ``test``. Files can be compressed
    (``.csv.gz``).

    Args:
        path: The file or folder.
        order: Rule for the site order (default: by coordinates, which reveals no elements).
        max_sites: Reject larger cells.
        on_error: ``raise`` an error for rows that cannot be read, or ``skip`` them.
        progress: Show a progress bar.

    Raises:
        MissingDataError: If the file is missing, or the folder contains none of the three files.
        DamagedFileError: If a file cannot be read, has no rows, or lacks a column.
        BadCrystalError: If a row does not contain a valid crystal; the message gives the row.
        CrystalGymError: If an id occurs twice, a split is unknown or has two files, or files of a
            folder would be left out.
    """
    path = Path(path).expanduser()
    files: dict[str | None, Path] = {None: path}
    if path.is_dir():
        contents = folder_contents(path)
        warn_of_ignored_files(path, contents.ignored)
        files = {**contents.tables}
        if not files:
            raise MissingDataError(
                f"Expected {', '.join(split + '.csv' for split in SPLITS)} (or .csv.gz) in {path}, "
                "got structure files. Use load_collection to read them."
            )
    return collection_from_csv_files(
        collection_name(path),
        files,
        order=order,
        max_sites=max_sites,
        on_error=on_error,
        progress=progress,
    )


def collection_from_csv_files(
    name: str,
    files: Mapping[str | None, Path],
    *,
    order: SiteOrder = None,
    max_sites: int | None = None,
    on_error: str = "raise",
    description: str = "",
    progress: bool = True,
) -> CrystalCollection:
    """Load a collection from CDVAE-format files.

    See ``load_cdvae_csv`` for the format and the errors.

    Args:
        name: Name of the collection.
        files: Files by split; ``None`` for a file with crystals of several splits.
        order: Rule for the site order.
        max_sites: Reject larger cells.
        on_error: ``raise`` an error for rows that cannot be read, or ``skip`` them.
        description: A sentence on the crystals and their origin (default: the names of the files).
        progress: Show a progress bar.
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
        on_error=on_error,
        description=description
        or f"Crystals from {', '.join(path.name for path in files.values())}.",
        progress=progress,
    )


def _read_files(files: Mapping[str | None, Path]) -> list[RawCrystal]:
    """Read the crystals of all files, whose ids must be distinct."""
    crystals: dict[str, RawCrystal] = {}
    for split, path in files.items():
        for crystal in _read_file(path, split):
            if crystal.id in crystals:
                raise CrystalGymError(
                    f"{crystal.where}: expected distinct entries in material_id, got "
                    f"{crystal.id!r} as in {crystals[crystal.id].where}. Rename or remove one of "
                    "the rows."
                )
            crystals[crystal.id] = crystal
    if not crystals:
        names = ", ".join(str(path) for path in files.values())
        raise DamagedFileError(f"{names}: expected crystals, got no rows below the header.")
    return list(crystals.values())


def _read_file(path: Path, split: str | None) -> list[RawCrystal]:
    """Read the crystals of one file; without a split, use its column ``split`` or hashes."""
    header, rows = read_rows(path)
    id_column, cif_column = (header.index(name) for name in REQUIRED_COLUMNS)
    split_column = _split_column(path, header)
    labels = _number_columns(header, rows)
    crystals = []
    for number, row in enumerate(rows):
        where = f"{path.name}, row {number + 1}"
        if len(row) != len(header) or not row[id_column] or not row[cif_column]:
            crystals.append(_broken_row(where, row, len(header), split))
            continue
        own_split = split or ""
        if split is None and split_column is not None:
            own_split = split_of(row[split_column]) or ""
            if not own_split:
                raise CrystalGymError(
                    f"{where}: expected a split among {', '.join(SPLITS)}, got "
                    f"{row[split_column]!r}. Correct the column split."
                )
        values = {label: column[number] for label, column in labels.items()}
        crystals.append(
            RawCrystal(row[id_column], own_split, row[cif_column], "cif", where, values)
        )
    if split is None and split_column is None:
        splits = hash_splits([crystal.id for crystal in crystals])
        return [replace(c, split=split) for c, split in zip(crystals, splits, strict=True)]
    return crystals


def _broken_row(where: str, row: list[str], n_columns: int, split: str | None) -> RawCrystal:
    """Return a crystal with the error of a row without an id or CIF, or of another length."""
    got = f"{len(row)} entries" if len(row) != n_columns else "an empty entry in material_id or cif"
    error = BadCrystalError(
        f"{where}: expected {n_columns} entries as in the header, also in material_id and cif, got "
        f"{got}: a broken row."
    )
    return RawCrystal(where, split or SPLITS[0], error, "error", where)


def _split_column(path: Path, header: list[str]) -> int | None:
    """Return the number of the column ``split`` in any case, or ``None``."""
    found = [number for number, name in enumerate(header) if name.strip().lower() == "split"]
    if len(found) > 1:
        raise DamagedFileError(
            f"{path}: expected one column split, got {len(found)}. Rename or remove one of them."
        )
    return found[0] if found else None


def _number_columns(header: list[str], rows: list[list[str]]) -> dict[str, list[float]]:
    """Return the columns of numbers; empty entries are NaN."""
    columns = {}
    for number, name in enumerate(header):
        if name.strip().lower() in _NO_LABELS:
            continue
        entries = [row[number].strip() if number < len(row) else "" for row in rows]
        try:
            values = [float(entry or "nan") for entry in entries]
        except ValueError:
            continue
        # Python reads 1_5 as 15.
        if any(entries) and not any("_" in entry for entry in entries):
            columns[name] = values
    return columns
