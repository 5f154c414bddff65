"""The setup and the checks that the single and the vector environment share."""

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import logger, spaces

from crystal_gym.envs.generator import InstanceGenerator, InstanceKeywords
from crystal_gym.episode import EpisodeState, EpisodeTable, observation_space
from crystal_gym.errors import (
    CrystalGymError,
    ResetNeededError,
    UnknownArgumentError,
    UnknownNameError,
)
from crystal_gym.masks import Mask, MaskLike, resolve_mask
from crystal_gym.rewards import Reward, component_names, resolve_reward

if TYPE_CHECKING:
    from crystal_gym.envs.rendering import Scene
    from crystal_gym.rewards.registry import RewardLike

# Arguments of the environments besides those of the instance generator.
_ARGUMENTS = ("generator", "reward", "mask", "render_mode")
# Value before the end of the entries of `info` that only a finished crystal has. NaN differs from
# itself, so that Gymnasium's `check_env` would take the infos of equal steps for different ones.
UNDEFINED = np.float64(-1.0)
_GYMNASIUM_ARGUMENTS = {
    "max_episode_steps": "Pass it to gym.make or gym.make_vec, which limit the episodes.",
    "autoreset_mode": "With vectorization_mode 'sync' or 'async', pass it to gym.make_vec in "
    "vector_kwargs.",
}


class SkeletonEnvSetup:
    """Base class of the single and the vector environment.

    Attributes:
        generator: The generator of the crystal and the site order of each episode.
        table: The crystals, as arrays.
        reward: The reward of steps and of the ends of episodes.
        mask: The function that selects the elements allowed on the site in focus.
        render_mode: One of ``metadata["render_modes"]`` or ``None``.
    """

    metadata: dict[str, Any]
    generator: InstanceGenerator
    table: EpisodeTable
    reward: Reward
    mask: Mask
    render_mode: str | None
    _state: EpisodeState | None
    _components: tuple[str, ...]
    _undefined: dict[str, np.float64]

    def _set_up(
        self,
        generator: InstanceGenerator | None,
        instances: InstanceKeywords,
        reward: "RewardLike",
        mask: MaskLike,
        render_mode: str | None,
    ) -> tuple[spaces.Dict, spaces.Discrete]:
        """Set the attributes and prepare the reward.

        Args:
            generator: An instance generator, or ``None`` to make one from ``instances``.
            instances: Keyword arguments of ``InstanceGenerator``.
            reward: See ``crystal_gym.rewards.resolve_reward``.
            mask: See ``crystal_gym.masks.resolve_mask``.
            render_mode: One of ``metadata["render_modes"]`` or ``None``.

        Returns:
            The observation space and the action space of a single episode.

        Raises:
            CrystalGymError: If an argument is invalid.
        """
        render_modes = self.metadata["render_modes"]
        if render_mode is not None and render_mode not in render_modes:
            raise UnknownNameError("render mode", render_mode, render_modes)
        self.generator = _resolve_generator(generator, instances)
        self.table = self.generator.table
        self.reward = resolve_reward(reward)
        self.mask = resolve_mask(mask)
        self.render_mode = render_mode
        self._state = None
        self.reward.prepare(self.table)
        self._components = component_names(self.reward)
        self._undefined = dict.fromkeys(self._components, UNDEFINED)
        table = self.table
        n_targets = len(table.target_names)
        return (
            observation_space(table.max_sites, table.max_edges, table.n_elements, n_targets),
            spaces.Discrete(table.n_elements),
        )

    def _current_state(self) -> EpisodeState:
        """Return the state of the current episode or episodes.

        Raises:
            ResetNeededError: If ``reset`` has not been called.
        """
        if self._state is None:
            raise ResetNeededError("No episode has been started. Call reset() first.")
        return self._state

    def _forget_episodes(self, seed: int | None) -> None:
        """Reset the memories of the reward if a seed is given, which determines a run."""
        if seed is not None:
            for counts in self.reward.memories().values():
                counts.reset()

    def _scenes(self) -> "list[Scene] | None":
        """Return one scene for each episode; without a render mode, warn and return ``None``."""
        if self.render_mode is None:
            logger.warn("render() needs a render_mode. Pass one when the environment is made.")
            return None
        from crystal_gym.envs.rendering import make_scenes

        return make_scenes(self.table, self._current_state())

    def _frame(self, scene: "Scene") -> str | np.ndarray:
        """Return a scene as text or as an image, depending on the render mode."""
        return scene.text() if self.render_mode == "ansi" else scene.pixels()


def _resolve_generator(
    generator: InstanceGenerator | None, instances: InstanceKeywords
) -> InstanceGenerator:
    """Return the given generator, or make one from keyword arguments."""
    for name in instances.keys() - InstanceKeywords.__annotations__.keys():
        if name in _GYMNASIUM_ARGUMENTS:
            raise CrystalGymError(
                f"Expected arguments of a skeleton environment, got {name!r}. "
                f"{_GYMNASIUM_ARGUMENTS[name]}"
            )
        known = (*InstanceKeywords.__annotations__, *_ARGUMENTS)
        raise UnknownArgumentError.of("The environment", name, known)
    if generator is None:
        return InstanceGenerator(**instances)
    if instances:
        raise CrystalGymError(
            f"Expected no {', '.join(instances)} together with a generator. "
            "Pass these arguments to the InstanceGenerator."
        )
    return generator
