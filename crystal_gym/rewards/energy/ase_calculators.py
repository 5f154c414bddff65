"""Energies by the calculators of the Atomic Simulation Environment (ASE)."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards.energy.interface import FailureLog, FilledSkeleton, missing_package

if TYPE_CHECKING:
    from ase.calculators.calculator import BaseCalculator


class AseEnergy:
    """Any ASE calculator, evaluated on one crystal after another.

    Exceptions of the calculator are logged and count as failures.

    Args:
        calculator: An ASE calculator.
        name: Name for messages (default: the name of the calculator's class).
        make: Makes an equal calculator. With it, the model can be pickled, whatever the state of
            the calculator.
    """

    # Computed with the calculator when needed.
    reference_energies: Mapping[str, float] | None = None
    # One calculation may take hours, so every crystal is computed alone.
    sites_per_batch = 1

    def __init__(
        self,
        calculator: "BaseCalculator",
        name: str = "",
        make: "Callable[[], BaseCalculator] | None" = None,
    ) -> None:
        self.calculator = calculator
        self.name = name or type(calculator).__name__
        self._make = make
        self._failures = FailureLog()

    @classmethod
    def made_by(cls, make: "Callable[[], BaseCalculator]", name: str) -> Self:
        """Return the model of the calculator that a function makes.

        Args:
            make: Makes the calculator.
            name: Name for messages.
        """
        return cls(make(), name, make)

    def __reduce__(self) -> tuple:
        """Pickle how to make the calculator, or the calculator itself."""
        if self._make is None:
            return type(self), (self.calculator, self.name)
        return type(self).made_by, (self._make, self.name)

    def energies(self, crystals: Sequence[FilledSkeleton]) -> np.ndarray:
        """Compute energies in eV/atom; see ``EnergyModel.energies``."""
        from ase import Atoms

        values = np.full(len(crystals), np.nan)
        for index, (skeleton, numbers) in enumerate(crystals):
            with self._failures.catch(numbers):
                atoms = Atoms(
                    numbers=numbers,
                    cell=skeleton.lattice,
                    scaled_positions=skeleton.frac_coords,
                    pbc=True,
                    calculator=self.calculator,
                )
                values[index] = atoms.get_potential_energy() / len(atoms)
        return values


def calculator_names() -> tuple[str, ...]:
    """Return ASE's names of calculators.

    Raises:
        CrystalGymError: If ASE is not installed.
    """
    registry = _import_calculators()
    from ase.calculators.names import names

    return (*names, *registry.external_calculators)


def calculator_class(name: str) -> Any:
    """Import the class of a calculator.

    Args:
        name: One of ``calculator_names()``, or ``module:Class``.

    Raises:
        CrystalGymError: If a package is missing, or the class does not exist or is not an ASE
            calculator.
    """
    registry = _import_calculators()
    module, colon, attribute = name.partition(":")
    if colon and not (attribute and all(part.isidentifier() for part in module.split("."))):
        raise CrystalGymError(f"Expected a calculator class as 'module:Class', got {name!r}.")
    try:
        if colon:
            found = getattr(import_module(module), attribute)
        else:
            found = registry.get_calculator_class(name)
    except ModuleNotFoundError as error:
        raise CrystalGymError(
            f"The calculator {name!r} needs the package {error.name!r}, which is not installed."
        ) from error
    except AttributeError as error:
        raise CrystalGymError(f"The module {module!r} has no class {attribute!r}.") from error
    # The name may come from a file, so nothing but a calculator may be called.
    if colon and not (isinstance(found, type) and issubclass(found, registry.BaseCalculator)):
        raise CrystalGymError(f"Expected the class of an ASE calculator, got {name!r}.")
    return found


def _import_calculators() -> Any:
    try:
        return import_module("ase.calculators.calculator")
    except ModuleNotFoundError as error:
        raise missing_package("ASE") from error
