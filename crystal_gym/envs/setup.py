"""FIXDOC."""

from typing import TYPE_CHECKING

from crystal_gym.envs.generator import InstanceGenerator, InstanceKeywords
from crystal_gym.errors import CrystalGymError, UnknownNameError

if TYPE_CHECKING:
    pass


def resolve_generator(
    generator: InstanceGenerator | None, instances: InstanceKeywords
) -> InstanceGenerator:
    """The generator given, or one made from keywords.

    Raises:
        CrystalGymError: both are given.
    """
    if generator is None:
        return InstanceGenerator(**instances)
    if instances:
        raise CrystalGymError(
            f"Give {', '.join(instances)} to the InstanceGenerator; it was passed ready-made."
        )
    return generator


def check_render_mode(render_mode: str | None, known: list[str]) -> None:
    """Raise ``UnknownNameError`` for a render mode that is not known."""
    if render_mode is not None and render_mode not in known:
        raise UnknownNameError("render mode", render_mode, known)
