"""Requested values of labels on the command line."""

import math
from collections.abc import Sequence

from crystal_gym.errors import CrystalGymError


def parse_targets(arguments: Sequence[str]) -> dict[str, float] | None:
    """Return requested values by label; ``None`` if there are none.

    Args:
        arguments: Items such as ``heat_all=-0.2``.

    Raises:
        CrystalGymError: If an item has another form, or a label occurs twice.
    """
    values: dict[str, float] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (name and equals) or math.isnan(value) or name in values:
            raise CrystalGymError(
                "Expected each label of --target once, as LABEL=VALUE, such as heat_all=-0.2, got "
                f"{argument!r}."
            )
        values[name] = value
    return values or None
