"""Relaxation of a crystal with an ASE calculator."""

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pymatgen.core import Structure

# Largest component of the forces in eV/Å, and of the stress times the volume in eV, at the end.
_CONVERGED = 0.05


class Relaxation(NamedTuple):
    """A relaxed crystal.

    Attributes:
        structure: The crystal after the last step.
        energy: Its energy in eV/atom.
        converged: Whether all forces are small; otherwise the steps did not suffice.
    """

    structure: "Structure"
    energy: float
    converged: bool


def relax(structure: "Structure", calculator: Any, steps: int) -> Relaxation:
    """Relax the cell and the positions of a crystal by FIRE (Bitzek et al., PRL 97, 170201, 2006).

    Args:
        structure: The crystal.
        calculator: An ASE calculator with forces and stress.
        steps: Largest number of steps.
    """
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE
    from pymatgen.io.ase import AseAtomsAdaptor

    atoms: Any = AseAtomsAdaptor.get_atoms(structure)
    atoms.calc = calculator
    # ASE's annotations of filters and of the missing log file are narrower than what it accepts.
    movable: Any = FrechetCellFilter(atoms)
    no_log: Any = None
    optimizer = FIRE(movable, logfile=no_log)
    with warnings.catch_warnings():
        # PyTorch's warning about how CHGNet converts the volume, which does not change results.
        warnings.filterwarnings("ignore", "Converting a tensor with requires_grad", UserWarning)
        converged = bool(optimizer.run(fmax=_CONVERGED, steps=steps))
    relaxed = AseAtomsAdaptor.get_structure(atoms)
    return Relaxation(relaxed, float(atoms.get_potential_energy()) / len(atoms), converged)
