"""The files that are written for the fillings of structure files."""

import csv
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crystal_agents.rollouts.ranking import RankedFilling
from crystal_gym.errors import CrystalGymError
from crystal_gym.utils.storage_errors import storage_errors

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Extension of each format.
FORMATS = {"cif": "cif", "poscar": "vasp", "extxyz": "extxyz"}
SCORES = "scores.csv"


def write_fillings(
    folder: Path, files: Sequence[str], fillings: Sequence[Sequence[RankedFilling]], kind: str
) -> Path:
    """Write the filled crystals and the table ``scores.csv`` to a folder, all of them or none.

    The files are ``NAME-RANK.EXTENSION`` with the name of each input; inputs of the same name are
    numbered.

    Args:
        folder: The folder, which is replaced if it exists.
        files: Paths of the inputs.
        fillings: The fillings of each input, the best first.
        kind: A key of ``FORMATS``.

    Returns:
        The path of the table.

    Raises:
        CrystalGymError: If the folder exists and contains other files.
        StorageError: If the folder cannot be written.
    """
    _require_own_files(folder)
    with storage_errors(folder, "Choose another folder for --output."):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            rows = []
            for name, found in zip(_names(files), fillings, strict=True):
                for rank, filling in enumerate(found, start=1):
                    file = f"{name}-{rank}.{FORMATS[kind]}"
                    _write_structure(filling.structure, temporary / file, kind)
                    rows.append([file, rank, *_scores(filling)])
            with (temporary / SCORES).open("w", newline="", encoding="utf-8") as table:
                lines = csv.writer(table)
                lines.writerow(_HEADER)
                lines.writerows(rows)
            temporary.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder / SCORES


_HEADER = (
    "file", "rank", "formula", "elements", "log_probability", "count", "valid_strict",
    "formation_energy", "energy_above_hull", "relaxation_converged", "in_training",
)  # fmt: skip


def _write_structure(structure: "Structure", path: Path, kind: str) -> None:
    if kind == "extxyz":
        structure.to_ase_atoms().write(path, format="extxyz")
    elif kind == "poscar":
        structure.to(filename=str(path), fmt="poscar")
    else:
        structure.to(filename=str(path), fmt="cif")


def _scores(filling: RankedFilling) -> list[object]:
    filled = filling.filled
    return [
        filled.formula,
        " ".join(site.specie.symbol for site in filled.structure),
        filled.log_probability,
        filled.count,
        int(filled.valid),
        *(
            "" if value is None else value
            for value in (
                filling.formation_energy,
                filling.energy_above_hull,
                None if filling.converged is None else int(filling.converged),
                filling.in_training,
            )
        ),
    ]


def _names(files: Sequence[str]) -> list[str]:
    """Return a distinct name for each input, without its extensions."""
    stems = [Path(file).name.split(".")[0] or "crystal" for file in files]
    return [
        stem if stems.count(stem) == 1 else f"{stem}-{index}" for index, stem in enumerate(stems)
    ]


def _require_own_files(folder: Path) -> None:
    """Refuse a folder with other content than an earlier call has written."""
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / SCORES).is_file()):
        raise CrystalGymError(
            f"Expected a folder of fillings with {SCORES} to replace, got {folder} with other "
            "content. Choose another folder."
        )
