"""Validation of numeric parameters."""

import math
from numbers import Real

from crystal_gym.errors import CrystalGymError


def require_finite(value: object, name: str, *, minimum: float = -math.inf) -> float:
    """Return a parameter as a float if it is a finite number.

    Args:
        value: The value of the parameter.
        name: Name of the parameter for the message, with its unit.
        minimum: The smallest valid value.

    Raises:
        CrystalGymError: If the value is not a number, is NaN or infinite, or is below the minimum.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise CrystalGymError(f"Expected {name} to be a finite number, got {value!r}.")
    if value < minimum:
        raise CrystalGymError(f"Expected {name} to be at least {minimum:g}, got {value!r}.")
    return float(value)
