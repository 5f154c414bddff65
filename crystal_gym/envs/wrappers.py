"""Observation wrappers."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.errors import CrystalGymError


class GraphObservation(
    gym.ObservationWrapper[spaces.GraphInstance, int | np.int64, dict[str, Any]],
    gym.utils.RecordConstructorArgs,
):
    """Observations as ``gymnasium.spaces.Graph``, without padding.

    Minari and Stable-Baselines3 do not support this space; they need the flat ``Dict`` that the
    environment itself returns.

    - ``nodes``, float32 (n, 5): the element of the site (0 empty, 1 to V), 1 if the site is in
      focus, and its fractional coordinates.
    - ``edge_links``, int32 (m, 2): source and target sites.
    - ``edges``, float32 (m, 3): the vector in Å from the source to the target's periodic image.

    Args:
        env: A ``CrystalSkeletonEnv``, wrapped or not.

    Raises:
        CrystalGymError: If ``env`` is another environment, or has targets.
    """

    def __init__(self, env: gym.Env[dict[str, Any], int | np.int64]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        if not isinstance(env.unwrapped, CrystalSkeletonEnv):
            raise CrystalGymError(f"Expected a CrystalSkeletonEnv to wrap, got {env}.")
        if env.unwrapped.table.target_names:
            raise CrystalGymError(
                "Expected an environment without targets, which a graph cannot hold, got one with "
                f"{list(env.unwrapped.table.target_names)}. Use FlatObservation."
            )
        n_elements = env.unwrapped.table.n_elements
        high = np.array([n_elements, 1, 1, 1, 1], np.float32)
        self.observation_space = spaces.Graph(
            node_space=spaces.Box(np.zeros(5, np.float32), high),
            edge_space=spaces.Box(-np.inf, np.inf, (3,), np.float32),
        )

    def observation(self, observation: dict[str, Any]) -> spaces.GraphInstance:
        """Convert a flat observation to a graph."""
        element, focus = observation["element"], observation["focus"]
        n = int((element >= 0).sum())
        frac_coords = observation["frac_coords"][:n]
        edges = observation["edges"]
        edges = edges[edges[:, 0] >= 0]
        links = edges[:, :2]
        steps = frac_coords[links[:, 1]] + edges[:, 2:] - frac_coords[links[:, 0]]
        in_focus = np.arange(n) == focus
        nodes = np.concatenate([element[:n, None], in_focus[:, None], frac_coords], axis=1)
        return spaces.GraphInstance(
            nodes=nodes.astype(np.float32),
            edges=(steps @ lattice_matrix(observation["lattice"])).astype(np.float32),
            edge_links=links.copy(),
        )
