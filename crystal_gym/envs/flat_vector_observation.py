"""Flat observations of the native vector environment."""

import dataclasses
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from crystal_gym.envs.flat_layout import FlatLayout
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.errors import CrystalGymError


class FlatVectorObservation(VectorWrapper):
    """``FlatObservation`` for ``CrystalSkeletonVectorEnv``: observations float32 (B, D).

    All autoreset modes are supported. With ``SameStep``, ``infos["final_obs"]`` contains flat
    observations as well; all other infos are those of ``env``.

    Args:
        env: A ``CrystalSkeletonVectorEnv``, wrapped or not, with its ``Dict`` observations. In
            vectors of single environments, wrap each with ``FlatObservation``.
        pairs: Whether the vector has the block ``pairs``, which describes the neighbor graph.

    Attributes:
        layout: The ``FlatLayout`` of the observations.
        autoreset_mode: The autoreset mode of ``env``.

    Raises:
        CrystalGymError: If ``env`` is another environment, or a lattice of its crystals is outside
            the bounds of the layout.
    """

    def __init__(self, env: VectorEnv, pairs: bool = False) -> None:
        super().__init__(env)
        native = env.unwrapped
        if not isinstance(native, CrystalSkeletonVectorEnv):
            raise CrystalGymError(
                f"Expected a CrystalSkeletonVectorEnv to wrap, got {env}. Make it with "
                "gym.make_vec and the default vectorization_mode, or wrap each single environment "
                "with FlatObservation."
            )
        self.layout = FlatLayout.from_space(env.single_observation_space, pairs)
        self.layout.check_lattice(native.table.lattice)
        self.single_observation_space = self.layout.space()
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self.autoreset_mode = AutoresetMode(env.metadata["autoreset_mode"])
        self._encoder = _GeometryEncoder(self.layout, len(native.table.n_sites))
        # The geometry blocks of the current episodes, float32 (B, G).
        self._geometry = np.zeros((env.num_envs, self._encoder.width), np.float32)
        # Episodes that ended at the last step and restart at the next one.
        self._ended = np.zeros(env.num_envs, bool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start episodes, see ``CrystalSkeletonVectorEnv.reset``."""
        observations, infos = self.env.reset(seed=seed, options=options)
        mask = (options or {}).get("reset_mask")
        restarted = np.ones(self.num_envs, bool) if mask is None else np.asarray(mask, bool)
        self._update(restarted, observations, infos)
        self._ended = np.zeros(self.num_envs, bool)
        return self.layout.flatten(observations, self._geometry), infos

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Assign elements to the sites in focus, see ``CrystalSkeletonVectorEnv.step``."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        ended = terminations | truncations
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            if ended.any():
                infos = {**infos, "final_obs": self._flat_final(infos["final_obs"], ended)}
                self._update(ended, observations, infos)
        elif self.autoreset_mode == AutoresetMode.NEXT_STEP:
            self._update(self._ended, observations, infos)
            self._ended = ended
        flat = self.layout.flatten(observations, self._geometry)
        return flat, rewards, terminations, truncations, infos

    def _update(
        self, restarted: np.ndarray, observations: dict[str, np.ndarray], infos: dict[str, Any]
    ) -> None:
        """Encode the geometry of the episodes that have just started, bool (B,)."""
        indices = np.flatnonzero(restarted)
        if len(indices):
            changed = {key: observations[key][indices] for key in self.layout.geometry_keys}
            self._geometry[indices] = self._encoder(changed, infos["crystal"][indices])

    def _flat_final(self, final: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """Return the last observations of the ended episodes as vectors, object (B,)."""
        indices = np.flatnonzero(ended)
        keys = ["element", "focus", *(["target"] if self.layout.target is not None else [])]
        last = {key: np.stack([final[index][key] for index in indices]) for key in keys}
        flat = np.full(len(final), None, object)
        for index, vector in zip(
            indices, self.layout.flatten(last, self._geometry[indices]), strict=True
        ):
            flat[index] = vector
        return flat


class _GeometryEncoder:
    """``FlatLayout.geometry`` with a table of the pair features of the crystals seen so far.

    Args:
        layout: The layout.
        n_crystals: C, the number of crystals.

    Attributes:
        width: G, the length of the geometry blocks.
    """

    def __init__(self, layout: FlatLayout, n_crystals: int) -> None:
        self._layout = layout
        self._without_pairs = dataclasses.replace(layout, pairs=False)
        self.width = layout.geometry_block.stop - layout.geometry_block.start
        # A crystal that has not been seen has a lattice of zeros, which no crystal has.
        self._table = np.zeros((n_crystals if layout.pairs else 0, self.width), np.float32)

    def __call__(self, observations: dict[str, np.ndarray], crystal: np.ndarray) -> np.ndarray:
        """Return the geometry blocks of k crystals with these rows, float32 (k, G)."""
        geometry = self._without_pairs.geometry(observations)
        if not self._layout.pairs:
            return geometry
        known = self._table[crystal]
        # The comparison also finds crystals whose geometry another wrapper has changed.
        new = np.flatnonzero((known[:, : geometry.shape[1]] != geometry).any(axis=1))
        if len(new):
            changed = {key: observations[key][new] for key in self._layout.geometry_keys}
            known[new] = self._table[crystal[new]] = self._layout.geometry(changed)
        return known


def make_flat_vector(
    num_envs: int = 1, *, pairs: bool = False, **arguments: Any
) -> FlatVectorObservation:
    """Return a native vector environment with flat observations.

    Args:
        num_envs: B.
        pairs: See ``FlatVectorObservation``.
        **arguments: See ``CrystalSkeletonVectorEnv``.
    """
    return FlatVectorObservation(CrystalSkeletonVectorEnv(num_envs, **arguments), pairs)
