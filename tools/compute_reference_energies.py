"""Compute the reference energies of the pure elements, for formation energies.

    python tools/compute_reference_energies.py

The command relaxes a crystal of every element with CHGNet and rewrites the file that
``crystal_gym.rewards.energy.reference_crystals`` reads. It takes minutes on one core. Every element
is in its low-temperature structure. The initial structure is experimental: from ASE's table of
lattices, or from pymatgen's copy of the AFLOW library, where necessary with the elements replaced
and the lattice scaled to a measured neighbor distance. CHGNet then relaxes cell and sites, so that
crystals and their elements are evaluated by the same model.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards.energy.chgnet import WEIGHTS_VERSION, make_ase_calculator
from crystal_gym.rewards.energy.reference_crystals import REFERENCES_FILE
from crystal_gym.utils.files import atomic_write
from crystal_gym.utils.progress import progress_bar

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

# Elements in ASE's table of simple lattices; PROTOTYPES contains all others.
SIMPLE = """
Li Be Na Mg Al Si K Ca Sc Ti V Cr Fe Co Ni Cu Zn Ge Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd Cs Ba Ce Eu
Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Tl Pb Ac Th He Ne Ar Kr Xe
""".split()

# By element: AFLOW label and formula of a crystal in the library, and the nearest-neighbor distance
# in Å to which it is scaled; None if the crystal is the element's own.
PROTOTYPES: dict[str, tuple[str, str, float | None]] = {
    "H": ("A_cP8_205_c", "N2", 0.74),
    "B": ("A_hR12_166_2h", "B", None),
    "C": ("A_hP4_194_bc", "C", None),
    "N": ("A_cP8_205_c", "N2", None),
    "O": ("A_mC4_12_i", "O2", None),
    "F": ("A_oC8_64_f", "I", 1.41),
    "P": ("A_oC8_64_f", "P", None),
    "S": ("A_oF128_70_4h", "S", None),
    "Cl": ("A_oC8_64_f", "I", 1.98),
    "Mn": ("A_cI58_217_ac2g", "Mn", None),
    "Ga": ("A_oC8_64_f", "Ga", None),
    "As": ("A_hR2_166_c", "As", None),
    "Se": ("A_hP3_152_a", "Se", None),
    "Br": ("A_oC8_64_f", "I", 2.28),
    "In": ("A_tI2_139_a", "In", None),
    # Gray tin, stable below 13 °C.
    "Sn": ("A_cF8_227_a", "C", 2.81),
    "Sb": ("A_hR2_166_c", "As", 2.91),
    "Te": ("A_hP3_152_a", "Se", 2.83),
    "I": ("A_oC8_64_f", "I", None),
    "La": ("A_hP4_194_ac", "La", None),
    "Pr": ("A_hP4_194_ac", "La", 3.64),
    "Nd": ("A_hP4_194_ac", "La", 3.63),
    "Pm": ("A_hP4_194_ac", "La", 3.62),
    "Sm": ("A_hR3_166_ac", "Sm", None),
    "Hg": ("A_hR1_166_a", "Hg", None),
    "Bi": ("A_hR2_166_c", "As", 3.07),
    "Pa": ("A_tI2_139_a", "Pa", None),
    "U": ("A_oC4_63_c", "U", None),
    "Np": ("A_oP8_62_2c", "Np", None),
    "Pu": ("A_mP16_11_8e", "Pu", None),
}

# Largest remaining force in eV/Å on the atoms and, as ASE defines it, on the cell, and the largest
# number of steps: molecular crystals are so soft that they may not reach this force.
_MAX_FORCE = 0.02
_MAX_STEPS = 100


def initial_crystal(symbol: str) -> "tuple[Atoms, str]":
    """Return the crystal of an element before relaxation, and its origin.

    Args:
        symbol: Symbol of the element.

    Raises:
        CrystalGymError: If neither ``SIMPLE`` nor ``PROTOTYPES`` contains the element.
    """
    from ase.build import bulk
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

    if symbol in SIMPLE:
        # ASE's table lists helium only as an atom; it crystallizes in the structure of magnesium.
        if symbol == "He":
            return bulk("He", "hcp", a=3.57), "ASE, helium hcp"
        return bulk(symbol), "ASE's table of lattices"
    if symbol not in PROTOTYPES:
        raise CrystalGymError(
            f"Expected an element with a known crystal, got {symbol!r}. "
            f"Known: {', '.join(sorted([*PROTOTYPES, *SIMPLE]))}."
        )
    label, formula, distance = PROTOTYPES[symbol]
    structure = next(
        entry["snl"].structure
        for entry in AFLOW_PROTOTYPE_LIBRARY
        if entry["tags"]["aflow"] == label
        and entry["snl"].structure.composition.reduced_formula == formula
    )
    # Without `msonable=False`, the result is a subclass that ASE's optimizers do not accept.
    atoms: Any = structure.to_ase_atoms(msonable=False)
    atoms.symbols[:] = symbol
    origin = f"AFLOW {label} ({formula})"
    if distance is not None:
        current = min(near.nn_distance for near in structure.get_neighbors(structure[0], 4.0))
        atoms.set_cell(atoms.cell * (distance / current), scale_atoms=True)
        origin += f", neighbors at {distance} Å"
    return atoms, origin


def relax(atoms: "Atoms", calculator: "Calculator") -> "Atoms":
    """Relax cell and sites to the minimum of the energy, within the symmetry of the crystal.

    Args:
        atoms: The initial crystal, which is not changed.
        calculator: The calculator of energy, forces and stress.
    """
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    atoms = atoms.copy()
    atoms.calc = calculator
    optimizer = BFGS(FrechetCellFilter(atoms), logfile=None)  # type: ignore[arg-type] - ASE's annotation omits filters
    optimizer.run(_MAX_FORCE, _MAX_STEPS)
    return atoms


def relax_elements(symbols: Iterable[str], calculator: "Calculator") -> dict[str, dict[str, Any]]:
    """Relax the crystals of elements.

    Args:
        symbols: Symbols of the elements.
        calculator: The calculator of energy, forces and stress.

    Returns:
        The entries of the file by symbol, see
        ``crystal_gym.rewards.energy.reference_crystals.reference_elements``.

    Raises:
        CrystalGymError: If the crystal of an element is not known.
    """
    symbols = list(symbols)
    elements = {}
    with progress_bar("elements", len(symbols), shown=True) as advance:
        for symbol in symbols:
            initial, origin = initial_crystal(symbol)
            atoms = relax(initial, calculator)
            elements[symbol] = {
                "energy": round(float(atoms.get_potential_energy()) / len(atoms), 4),
                "origin": origin,
                "parameters": np.round(atoms.cell.cellpar(), 6).tolist(),
                "frac_coords": np.round(atoms.get_scaled_positions(), 8).tolist(),
            }
            print(symbol, elements[symbol]["energy"], len(atoms), flush=True)
            advance(1, symbol)
    return elements


def main(arguments: Sequence[str] | None = None) -> None:
    """Relax the elements with CHGNet and write the file.

    Args:
        arguments: Command-line arguments (default: those of the process).
    """
    parser = argparse.ArgumentParser(
        description="Compute the reference energies of the pure elements with CHGNet."
    )
    parser.add_argument(
        "--elements",
        nargs="+",
        metavar="SYMBOL",
        help="elements to relax (default: all); needs --output",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=REFERENCES_FILE,
        help="file to write (default: the file in the package)",
    )
    options = parser.parse_args(arguments)
    if options.elements and options.output == REFERENCES_FILE:
        parser.error("--elements needs --output, so that the file in the package stays complete.")
    symbols = options.elements or [*PROTOTYPES, *SIMPLE]
    try:
        content = {
            "model": f"CHGNet {WEIGHTS_VERSION}",
            "package": f"chgnet {version('chgnet')}",
            "command": "python tools/compute_reference_energies.py",
            "units": "eV/atom, Å",
            "elements": relax_elements(symbols, make_ase_calculator()),
        }
        with atomic_write(options.output) as temporary:
            temporary.write_text(json.dumps(content) + "\n")
    except CrystalGymError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
