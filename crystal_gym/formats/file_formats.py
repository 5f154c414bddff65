"""Formats of structure files by the names of the files."""

import re
from pathlib import Path

from crystal_gym.errors import BadCrystalError
from crystal_gym.formats.text import COMPRESSIONS

SUPPORTED = (
    "CIF (.cif), POSCAR (POSCAR*, CONTCAR*, .vasp, .poscar), extended XYZ (.extxyz, .xyz) and JSON "
    "of pymatgen structures or Materials Project documents (.json), each also compressed (.gz, "
    ".bz2, .xz)"
)

_BY_EXTENSION = {
    ".cif": "cif",
    ".vasp": "poscar",
    ".poscar": "poscar",
    ".contcar": "poscar",
    ".extxyz": "extxyz",
    ".xyz": "extxyz",
    ".json": "json",
}
_POSCAR_NAME = re.compile(r"(POSCAR|CONTCAR)(?![a-z])", re.IGNORECASE)
# Extensions of structure files that are not read, with the reason if there is a particular one.
_UNSUPPORTED = {
    ".mcif": "an .mcif file describes a magnetic structure, whose symmetry is that of its moments. "
    "Write its atoms as an ordinary CIF",
    ".mmcif": "an .mmcif file describes a macromolecule",
    **dict.fromkeys(
        """.pdb .ent .xsf .axsf .res .ins .cssr .gen .cell .castep .mol .mol2 .sdf .xtl .struct
        .traj .lmp .cube""".split()
    ),
}


def without_compression(name: str) -> str:
    """Return a file name without the extension of a compression."""
    return name[: -len(Path(name).suffix)] if name.lower().endswith(COMPRESSIONS) else name


def file_format(path: Path) -> str | None:
    """Return ``cif``, ``poscar``, ``extxyz`` or ``json``, or ``None`` for other file names."""
    name = without_compression(path.name)
    extension = Path(name).suffix.lower()
    if extension in _BY_EXTENSION:
        return _BY_EXTENSION[extension]
    if extension in _UNSUPPORTED:
        return None
    return "poscar" if _POSCAR_NAME.match(name) else None


def is_structure_file(path: Path) -> bool:
    """Return whether a file name has the format of crystals, also one that is not supported."""
    extension = Path(without_compression(path.name)).suffix.lower()
    return file_format(path) is not None or extension in _UNSUPPORTED


def require_format(path: Path) -> str:
    """Return the format of a structure file.

    Raises:
        BadCrystalError: If the file name has no supported format; the message lists the formats.
    """
    found = file_format(path)
    if found is None:
        reason = _UNSUPPORTED.get(Path(without_compression(path.name)).suffix.lower())
        because = f" ({reason})" if reason else ""
        raise BadCrystalError(
            f"Expected a structure file in a supported format, got {path.name!r}{because}. "
            f"Supported formats are {SUPPORTED}."
        )
    return found


def crystal_name(path: Path) -> str:
    """Return the name of a structure file without the extensions of its format."""
    name = without_compression(path.name)
    return Path(name).stem if Path(name).suffix.lower() in _BY_EXTENSION else name
