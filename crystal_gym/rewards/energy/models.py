"""Energy models by name or by object."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards.energy.ase_calculators import (
    AseEnergy,
    calculator_class,
    calculator_names,
)
from crystal_gym.rewards.energy.chgnet import CHGNET, ChgnetEnergy
from crystal_gym.rewards.energy.interface import EnergyModel

if TYPE_CHECKING:
    from ase.calculators.calculator import BaseCalculator


def resolve_energy_model(
    calculator: "str | BaseCalculator", settings: Mapping[str, Any] | None = None
) -> EnergyModel:
    """Make an energy model from the name of a calculator or from an ASE calculator.

    Args:
        calculator: ``chgnet``; ASE's name of a calculator, such as ``emt`` or ``gpaw``; the class
            of a calculator as ``module:Class``; or an ASE calculator.
        settings: Keyword arguments of a calculator given by name.

    Raises:
        UnknownNameError: If the calculator does not exist.
        CrystalGymError: If a package is missing, the settings are invalid, or the object is not a
            calculator.
    """
    if not isinstance(calculator, str):
        return _wrap_calculator(calculator, settings)
    if settings is not None and not isinstance(settings, Mapping):
        raise CrystalGymError(
            f"Expected settings to be a mapping of names to values, got {settings!r}."
        )
    keywords = dict(settings or {})
    kind = None if calculator == CHGNET else _get_calculator_class(calculator)
    try:
        if kind is None:
            return ChgnetEnergy(**keywords)
        return AseEnergy.made_by(partial(kind, **keywords), calculator)
    except CrystalGymError:
        raise
    except Exception as error:
        raise CrystalGymError(
            f"The calculator {calculator!r} does not accept the settings {keywords}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _get_calculator_class(name: str) -> Any:
    if ":" not in name and name not in calculator_names():
        raise UnknownNameError("calculator", name, (CHGNET, *calculator_names()))
    return calculator_class(name)


def _wrap_calculator(calculator: Any, settings: Mapping[str, Any] | None) -> EnergyModel:
    if isinstance(calculator, type) or not hasattr(calculator, "get_potential_energy"):
        raise CrystalGymError(
            "Expected calculator to be a name ('chgnet' or ASE's, such as 'emt'), a class as "
            f"'module:Class', or an ASE calculator object, got {calculator!r}."
        )
    if settings:
        raise CrystalGymError(
            "Expected no settings together with a calculator object. Set them on the object."
        )
    return AseEnergy(calculator)
