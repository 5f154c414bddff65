"""Flat observations of the single environment: a wrapper and an environment."""

from typing import Any

import gymnasium as gym
import numpy as np

from crystal_gym.envs.flat_layout import FlatLayout
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.errors import CrystalGymError


class FlatObservation(
    gym.ObservationWrapper[np.ndarray, int | np.int64, Any],
    gym.utils.RecordConstructorArgs,
):
    """Observations as float32 vectors, for networks and libraries that require a ``Box``.

    ``crystal_gym.envs.flat_layout.FlatLayout`` describes the vector. Infos do not change. Use
    ``FlatVectorObservation`` for the native vector environment, and
    ``gym.make("CrystalSkeletonFlat-v0")`` where a name is required.

    Args:
        env: A ``CrystalSkeletonEnv``, wrapped or not, with its ``Dict`` observations.
        pairs: Whether the vector has the block ``pairs``, which describes the neighbor graph.

    Attributes:
        layout: The ``FlatLayout`` of the observations.

    Raises:
        CrystalGymError: If ``env`` is another environment, or a lattice of its crystals is outside
            the bounds of the layout.
    """

    env: gym.Env[Any, int | np.int64]

    def __init__(self, env: gym.Env[Any, int | np.int64], pairs: bool = False) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, pairs=pairs)
        super().__init__(env)
        if not isinstance(env.unwrapped, CrystalSkeletonEnv):
            raise CrystalGymError(f"Expected a CrystalSkeletonEnv to wrap, got {env}.")
        self.layout = FlatLayout.from_space(env.observation_space, pairs)
        self.layout.check_lattice(env.unwrapped.table.lattice)
        self.observation_space = self.layout.space()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode, see ``CrystalSkeletonEnv.reset``."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._geometry = self.layout.geometry(observation)
        return self.layout.flatten(observation, self._geometry), info

    def step(self, action: int | np.int64) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Assign an element to the site in focus, see ``CrystalSkeletonEnv.step``."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        # The geometry does not change within an episode.
        flat = self.layout.flatten(observation, self._geometry)
        return flat, reward, terminated, truncated, info

    def observation(self, observation: dict[str, Any]) -> np.ndarray:
        """Convert a ``Dict`` observation to a vector."""
        return self.layout.flatten(observation)


class CrystalSkeletonFlatEnv(CrystalSkeletonEnv):
    """``CrystalSkeletonEnv`` with flat observations, registered as ``CrystalSkeletonFlat-v0``.

    It is ``FlatObservation`` of ``CrystalSkeletonEnv`` in one class, for libraries that make an
    environment from its name or that remove all wrappers.

    Args:
        pairs: See ``FlatObservation``.
        **arguments: See ``CrystalSkeletonEnv``.

    Attributes:
        layout: The ``FlatLayout`` of the observations.
    """

    def __init__(self, *, pairs: bool = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.layout = FlatLayout.from_space(self.observation_space, pairs)
        self.layout.check_lattice(self.table.lattice)
        self.observation_space = self.layout.space()  # type: ignore[assignment] - flat

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode, see ``CrystalSkeletonEnv.reset``."""
        observation, info = super().reset(seed=seed, options=options)
        self._geometry = self.layout.geometry(observation)
        return self.layout.flatten(observation, self._geometry), info

    def step(self, action: int | np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Assign an element to the site in focus, see ``CrystalSkeletonEnv.step``."""
        observation, reward, terminated, truncated, info = super().step(action)
        flat = self.layout.flatten(observation, self._geometry)
        return flat, reward, terminated, truncated, info
