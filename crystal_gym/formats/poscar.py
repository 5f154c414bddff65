"""POSCAR and CONTCAR, the structure files of VASP."""

from typing import TYPE_CHECKING

import numpy as np

from crystal_gym.errors import BadCrystalError
from crystal_gym.formats.parsed_structure import ParsedStructure, with_hydrogen
from crystal_gym.formats.parser_errors import parser_errors

if TYPE_CHECKING:
    from pymatgen.core import Structure


def read_poscar(text: str) -> ParsedStructure:
    """Read the structure of a POSCAR or CONTCAR; its sites are in the order of the file.

    Velocities and the flags of selective dynamics are not read.

    Raises:
        BadCrystalError: If the text is not a POSCAR, its elements are unknown, or it contradicts
            itself.
    """
    from pymatgen.io.vasp import Poscar

    with parser_errors("POSCAR", "pymatgen"):
        lines = text.rstrip().split("\n")
        _require_symbols(lines)
        lines[1] = repr(_scale_factor(lines))
        structure = Poscar.from_str("\n".join(lines), read_velocities=False).structure
        _require_agreement(lines, structure)
    for key in list(structure.site_properties):
        structure.remove_site_property(key)
    return with_hydrogen(structure)


def _scale_factor(lines: list[str]) -> float:
    """Return the factor of lattice and Cartesian coordinates.

    A negative number in the file is the negative volume of the cell. pymatgen would multiply
    Cartesian coordinates by it.
    """
    try:
        scale = float(lines[1].split("#")[0].split("!")[0])
    except ValueError as error:
        raise BadCrystalError(
            f"Expected one scale factor in line 2 of the POSCAR, got {lines[1].strip()!r}. "
            "For three factors, multiply the x, y and z components of the lattice vectors and of "
            "Cartesian coordinates by them and write 1."
        ) from error
    if scale == 0 or not np.isfinite(scale):
        raise BadCrystalError(f"Expected a finite scale factor other than 0, got {scale}.")
    if scale > 0:
        return scale
    lattice = np.array([[float(x) for x in line.split()[:3]] for line in lines[2:5]])
    return float((-scale / abs(np.linalg.det(lattice))) ** (1 / 3))


def _require_symbols(lines: list[str]) -> None:
    """Raise an error for a POSCAR of VASP 4 without the symbols of its elements."""
    if len(lines) < 8:
        raise BadCrystalError(
            f"Expected a POSCAR with at least 8 lines, got {len(lines)}. The file is truncated."
        )
    first = lines[5].split()
    if first and all(word.isdigit() for word in first):
        selective = lines[6].strip()[:1] in {"s", "S"}
        coordinates = lines[7 + selective : 7 + selective + sum(map(int, first))]
        if not all(_symbol(line.split()[3 + 3 * selective :][:1]) for line in coordinates):
            raise BadCrystalError(
                "The elements are unknown: expected their symbols in line 6, got the numbers of "
                f"sites {lines[5].strip()!r} as in a POSCAR of VASP 4. Insert a line with the "
                "symbols above them."
            )


def _require_agreement(lines: list[str], structure: "Structure") -> None:
    """Raise an error if numbers or elements in the text differ from those that were read."""
    header = [line.split("#")[0].split() for line in lines]
    row = 5
    symbols: list[str] = []
    while not header[row][0].isdigit():
        symbols += header[row]
        row += 1
    counts: list[str] = []
    while header[row] and header[row][0].isdigit() and _is_number(header[row][-1]):
        counts += header[row]
        row += 1
    if symbols and len(symbols) != len(counts):
        raise BadCrystalError(
            f"Expected one number of sites for each of the {len(symbols)} symbols "
            f"{' '.join(symbols)}, got {len(counts)} numbers."
        )
    selective = header[row][0][0] in "sS"
    row += 1 + selective
    for index, site in enumerate(structure):
        written = _symbol(header[row + index][3 + 3 * selective :][:1])
        if written and written != getattr(site.specie, "symbol", None):
            raise BadCrystalError(
                f"Site {index} is {site.specie.symbol} by the numbers of sites and {written} by "
                "the symbol behind its coordinates. Correct one of them."
            )
    following = header[row + len(structure) :][:1]
    if following and len(following[0]) >= 3 and all(map(_is_number, following[0][:3])):
        raise BadCrystalError(
            f"Expected {len(structure)} sites as declared, got more coordinates. Correct the "
            "numbers of sites."
        )


def _symbol(words: list[str]) -> str | None:
    """Return the element that the first word is the symbol of, or ``None``."""
    from pymatgen.core import Element

    return words[0] if words and Element.is_valid_symbol(words[0]) else None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
