"""The native vector environment: all episodes of a batch advance in array operations."""

from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from crystal_gym.envs.generator import InstanceGenerator, InstanceKeywords
from crystal_gym.envs.setup import UNDEFINED, SkeletonEnvSetup
from crystal_gym.episode import EpisodeState, fill, observe, restart, start
from crystal_gym.errors import (
    CrystalGymError,
    InvalidActionError,
    ResetNeededError,
    UnknownNameError,
)
from crystal_gym.masks import MaskLike
from crystal_gym.rewards import finish

if TYPE_CHECKING:
    from crystal_gym.rewards.registry import RewardLike

AUTORESET_MODES = tuple(mode.value for mode in AutoresetMode)


class CrystalSkeletonVectorEnv(
    SkeletonEnvSetup, VectorEnv[dict[str, np.ndarray], np.ndarray, np.ndarray]
):
    """A vector environment in which B crystal skeletons are filled in parallel.

    Spaces, rewards, arguments and infos are those of
    ``crystal_gym.envs.skeleton_env.CrystalSkeletonEnv``, with a leading axis B. In infos, each
    ``key`` is an array, and ``_key``, bool (B,), marks the environments for which it is defined.
    Components of the reward are -1 except in the last step of an episode. All environments share
    one random number generator. A vector of one environment plays the same
    episodes as the single environment with the same seed.

    ``reset(options=…)`` takes one ``crystal``, ``start_site`` and ``target`` for all environments,
    or B each. ``reset_mask``, bool (B,), starts new episodes in the marked environments only.

    Args:
        num_envs: B.
        autoreset_mode: ``NextStep``: the step after the end of an episode ignores the action and
            starts the next episode with reward 0. ``SameStep``: the last step of an episode returns
            the first observation of the next one; ``infos["final_obs"]`` and
            ``infos["final_info"]`` contain the last observation and info of the finished one.
            ``Disabled``: after the end of an episode, ``reset(options={"reset_mask": mask})`` must
            start the next one.
        max_episode_steps: Truncate episodes after this number of steps, as Gymnasium's
            ``TimeLimit`` does (default and -1: never). The reward at the end and its components
            are computed for complete crystals only; a truncated episode has neither.
        generator: The instance generator (default: made from the remaining arguments).
        reward: See the single environment.
        mask: See the single environment; a function receives a batch.
        render_mode: ``ansi`` or ``rgb_array``.
        **instances: See ``crystal_gym.envs.generator.InstanceGenerator``.

    Raises:
        CrystalGymError: If an argument is invalid.

    Attributes:
        autoreset_mode: The mode, an ``AutoresetMode``, also in ``metadata``.
    """

    metadata = {  # noqa: RUF012 - as Gymnasium declares it
        "render_modes": ["ansi", "rgb_array"],
        "render_fps": 2,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        *,
        autoreset_mode: str | AutoresetMode = "NextStep",
        max_episode_steps: int | None = None,
        generator: InstanceGenerator | None = None,
        reward: "RewardLike" = "match",
        mask: MaskLike = "none",
        render_mode: str | None = None,
        **instances: Unpack[InstanceKeywords],
    ) -> None:
        mode = autoreset_mode.value if isinstance(autoreset_mode, AutoresetMode) else autoreset_mode
        if mode not in AUTORESET_MODES:
            raise UnknownNameError("autoreset mode", mode, AUTORESET_MODES)
        if num_envs < 1:
            raise CrystalGymError(f"Expected num_envs to be at least 1, got {num_envs}.")
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = self._set_up(
            generator, instances, reward, mask, render_mode
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._max_episode_steps = _validate_limit(max_episode_steps)
        # Episodes that ended at the last step and have not been restarted.
        self._ended = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode in every environment, or in those of a mask.

        Args:
            seed: Seed of the random number generator (default: it continues).
            options: ``crystal``, ``start_site`` and ``target``, one value for all environments or B
                values; ``keep``, site numbers for all environments; and ``reset_mask``, bool (B,).

        Returns:
            Observations and infos.

        Raises:
            CrystalGymError: If an option is invalid, or a crystal or a site does not exist.
            ResetNeededError: If a mask is given and no episodes have been started.
        """
        super().reset(seed=seed)
        self._forget_episodes(seed)
        if options and "reset_mask" in options:
            return self._reset_some(dict(options))
        draw = self.generator.draw(self.np_random, self.num_envs, options)
        self._state = start(self.table, *draw)
        self._ended = np.zeros(self.num_envs, bool)
        return observe(self.table, self._state), self._infos(self._state)

    def step(
        self, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Assign an element to the site in focus of every crystal.

        Args:
            actions: Indices of elements in the vocabulary, integers from 0 to V - 1, (B,).

        Returns:
            Observations, rewards float64 (B,), terminations and truncations bool (B,), infos.

        Raises:
            InvalidActionError: If the actions are not B integers from 0 to V - 1.
            ResetNeededError: If ``reset`` has not been called, or in mode ``Disabled`` not since an
                episode ended.
        """
        state = self._current_state()
        actions = self._validate_actions(actions)
        if self.autoreset_mode == AutoresetMode.DISABLED and self._ended.any():
            raise ResetNeededError(
                f"The episodes of the environments {np.flatnonzero(self._ended).tolist()} are "
                'over. Call reset(options={"reset_mask": terminations | truncations}).'
            )
        rewards = np.empty(self.num_envs)
        rewards[:] = self.reward.on_fill(self.table, state, actions + 1)
        full = fill(state, actions)
        terminations = full & ~self._ended
        n_steps = state.step - state.n_kept
        truncations = (n_steps >= self._max_episode_steps) & ~self._ended
        ended = terminations | truncations
        if self._ended.any():
            rewards[self._ended] = 0.0
            self._restart(state, self._ended)
        components: dict[str, np.ndarray] = {}
        if terminations.any():
            last, components = finish(self.reward, self.table, state.select(terminations))
            rewards[terminations] += last
        if self.autoreset_mode != AutoresetMode.SAME_STEP:
            self._ended = ended
            infos = self._infos(state, components, terminations)
        elif ended.any():
            final = self._final_infos(state, ended, components, terminations)
            infos = self._infos(state) | final
        else:
            infos = self._infos(state)
        return observe(self.table, state), rewards, terminations, truncations, infos

    def action_masks(self) -> np.ndarray:
        """Return the elements that the mask allows on the sites in focus, bool (B, V).

        Raises:
            ResetNeededError: If ``reset`` has not been called.
        """
        return self.mask(self.table, self._current_state())

    def expert_action(self) -> np.ndarray:
        """Return the actions that assign the true elements to the sites in focus, int64 (B,).

        Raises:
            ResetNeededError: If ``reset`` has not been called.
        """
        state = self._current_state()
        return self.table.true_elements[state.crystal, state.focus].astype(np.int64) - 1

    def render(self) -> Any:
        """Render the crystals in the render mode of the environment.

        Returns:
            A tuple of B texts (``ansi``) or B images, uint8 (height, width, 3) (``rgb_array``).

        Raises:
            ResetNeededError: If ``reset`` has not been called.
        """
        scenes = self._scenes()
        return None if scenes is None else tuple(self._frame(scene) for scene in scenes)

    def _validate_actions(self, actions: np.ndarray) -> np.ndarray:
        actions = np.asarray(actions)
        if (
            actions.shape != (self.num_envs,)
            or actions.dtype.kind not in "iu"
            or actions.min() < 0
            or actions.max() >= self.table.n_elements
        ):
            raise InvalidActionError(
                f"Expected actions to be {self.num_envs} integers from 0 to "
                f"{self.table.n_elements - 1}, got {actions!r}."
            )
        return actions.astype(np.int64, copy=False)

    def _reset_some(self, options: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode in the environments of ``options["reset_mask"]``."""
        mask = np.asarray(options.pop("reset_mask"))
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise CrystalGymError(
                f"Expected reset option 'reset_mask' to be a bool array of shape "
                f"({self.num_envs},) with at least one True, got {mask!r}."
            )
        state = self._current_state()
        for name, values in options.items():
            # One value for each environment; those of the mask are used.
            n_axes = {"crystal": 1, "start_site": 1, "target": 2}.get(name)
            if np.ndim(values) == n_axes:
                options[name] = self._one_each(name, values)[mask]
        self._restart(state, mask, options)
        self._ended[mask] = False
        infos = self._infos(state)
        return observe(self.table, state), {
            name: mask.copy() if name.startswith("_") else values for name, values in infos.items()
        }

    def _one_each(self, name: str, values: Any) -> np.ndarray:
        array = np.asarray(values)
        if len(array) != self.num_envs:
            raise CrystalGymError(
                f"Expected one value or {self.num_envs} values of reset option {name!r}, got "
                f"{len(array)}."
            )
        return array

    def _restart(
        self, state: EpisodeState, ended: np.ndarray, options: dict[str, Any] | None = None
    ) -> None:
        indices = np.flatnonzero(ended)
        draw = self.generator.draw(self.np_random, len(indices), options)
        restart(self.table, state, indices, draw)

    def _infos(
        self,
        state: EpisodeState,
        components: dict[str, np.ndarray] | None = None,
        complete: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """Return the infos of all environments.

        Args:
            state: The episodes.
            components: Components of the reward of k complete crystals by name, each (k,).
            complete: The environments of these crystals, bool (B,).
        """
        infos = {
            "action_mask": self.mask(self.table, state).view(np.int8),
            "crystal": state.crystal.copy(),
            "start_site": state.start_site,
        }
        for name in self._components:
            infos[name] = np.full(self.num_envs, UNDEFINED)
            if components:
                infos[name][complete] = components[name]
        return infos | {f"_{name}": np.ones(self.num_envs, bool) for name in infos}

    def _final_infos(
        self,
        state: EpisodeState,
        ended: np.ndarray,
        components: dict[str, np.ndarray],
        complete: np.ndarray,
    ) -> dict[str, Any]:
        """Return Gymnasium's ``final_obs`` and ``final_info``, and restart the ended episodes."""
        last = observe(self.table, state)
        info = self._infos(state, components, complete)
        for name in [name for name in info if name.startswith("_")]:
            info[name] = ended.copy()
        observations = np.full(self.num_envs, None, object)
        # Gymnasium stores one observation for each ended episode, and None for the others.
        for index in np.flatnonzero(ended):
            observations[index] = {name: values[index] for name, values in last.items()}
        self._restart(state, ended)
        return {
            "final_obs": observations,
            "_final_obs": ended.copy(),
            "final_info": info,
            "_final_info": ended.copy(),
        }


def _validate_limit(max_episode_steps: int | None) -> float:
    """Return the number of steps after which episodes are truncated, infinite without a limit."""
    if max_episode_steps is None or max_episode_steps == -1:
        return np.inf
    if (
        isinstance(max_episode_steps, bool)
        or not isinstance(max_episode_steps, int | np.integer)
        or max_episode_steps < 1
    ):
        raise CrystalGymError(
            "Expected max_episode_steps to be a positive integer, or None or -1 for no limit, got "
            f"{max_episode_steps!r}."
        )
    return int(max_episode_steps)
