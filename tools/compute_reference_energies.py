"""Crystals of the pure elements, relaxed by a potential: what formation energies are counted from.

    python -m tools.compute_reference_energies

writes the file of ``crystal_gym.rewards.energy.references`` anew (minutes, on one core). Every
element is taken in its structure at low temperature. The start is measured: ASE's table of
lattices, or a crystal of pymatgen's copy of the AFLOW library, where needed with the elements
replaced and scaled to a measured distance between neighbors. From there CHGNet relaxes cell and
sites by itself, so that crystals and their elements are judged by the same model.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from crystal_gym.rewards.energy.references import SHIPPED
from crystal_gym.utils.files import atomic_write
from crystal_gym.utils.progress import progress_bar

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

# Elements that ASE's table of simple lattices serves; all others stand in PROTOTYPES.
SIMPLE = """
Li Be Na Mg Al Si K Ca Sc Ti V Cr Fe Co Ni Cu Zn Ge Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd Cs Ba Ce Eu
Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Tl Pb Ac Th He Ne Ar Kr Xe
""".split()

# Element → AFLOW label and formula of the crystal of the library, and the distance between nearest
# neighbors in Å to which it is scaled; None where the crystal is the element's own.
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
    # Gray tin, below 13 °C.
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

# Largest force (eV/Å) that is left on an atom and, as ASE counts it, on the cell; and the steps
# after which a molecular crystal, soft as it is, counts as relaxed.
_FORCE = 0.02
_STEPS = 100


def elemental_crystal(symbol: str) -> "tuple[Atoms, str]":
    """The measured start of one element and where it is from.

    Raises:
        KeyError: neither ASE's table nor ``PROTOTYPES`` has the element.
    """
    from ase.build import bulk
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

    if symbol in SIMPLE:
        # ASE gives helium as an atom; it crystallises like magnesium.
        atoms = bulk("He", "hcp", a=3.57) if symbol == "He" else bulk(symbol)
        return atoms, "ASE, helium hcp" if symbol == "He" else "ASE's table of lattices"
    label, formula, distance = PROTOTYPES[symbol]
    structure = next(
        entry["snl"].structure
        for entry in AFLOW_PROTOTYPE_LIBRARY
        if entry["tags"]["aflow"] == label
        and entry["snl"].structure.composition.reduced_formula == formula
    )
    # pymatgen's adaptor gives ASE's class by another import path.
    atoms: Any = structure.to_ase_atoms(msonable=False)
    atoms.symbols[:] = symbol
    source = f"AFLOW {label} ({formula})"
    if distance is not None:
        now = min(near.nn_distance for near in structure.get_neighbors(structure[0], 4.0))
        atoms.set_cell(atoms.cell * (distance / now), scale_atoms=True)
        source += f", neighbors at {distance} Å"
    return atoms, source


def relaxed(atoms: "Atoms", calculator: "Calculator") -> "Atoms":
    """Cell and sites where the calculator's energy is least, in the symmetry of ``atoms``."""
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    atoms = atoms.copy()
    atoms.calc = calculator
    # ASE's optimisers take filters in the place of atoms; their annotation does not say so.
    BFGS(FrechetCellFilter(atoms), logfile=None).run(_FORCE, _STEPS)  # type: ignore[arg-type] - see above
    return atoms


def main() -> None:
    """Relax every element with CHGNet and write the file."""
    from importlib.metadata import version

    from chgnet.model.dynamics import CHGNetCalculator

    from crystal_gym.rewards.energy.models import load_chgnet

    calculator = CHGNetCalculator(load_chgnet(), use_device="cpu")
    elements = {}
    symbols = [*PROTOTYPES, *SIMPLE]
    with progress_bar("elements", len(symbols), shown=True) as advance:
        for symbol in symbols:
            start, source = elemental_crystal(symbol)
            atoms = relaxed(start, calculator)
            elements[symbol] = {
                "energy": round(float(atoms.get_potential_energy()) / len(atoms), 4),
                "start": source,
                "parameters": np.round(atoms.cell.cellpar(), 6).tolist(),
                "frac_coords": np.round(atoms.get_scaled_positions(), 8).tolist(),
            }
            print(symbol, elements[symbol]["energy"], len(atoms), flush=True)
            advance(1, symbol)
    content = {
        "model": "CHGNet 0.3.0",
        "package": f"chgnet {version('chgnet')}",
        "command": "python -m tools.compute_reference_energies",
        "units": "eV/atom, Å",
        "elements": elements,
    }
    with atomic_write(SHIPPED) as beside:
        beside.write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
