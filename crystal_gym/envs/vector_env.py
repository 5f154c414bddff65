"""The native vector environment: all episodes of a batch advance in array operations."""

from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from crystal_gym.envs.generator import InstanceGenerator, InstanceKeywords
from crystal_gym.envs.setup import SkeletonEnvSetup
from crystal_gym.episode import EpisodeState, fill, observe, restart, start
from crystal_gym.errors import CrystalGymError, InvalidActionError, UnknownNameError
from crystal_gym.masks import Mask
from crystal_gym.rewards import finish

if TYPE_CHECKING:
    from crystal_gym.rewards.registry import RewardLike

AUTORESET_MODES = (AutoresetMode.NEXT_STEP.value, AutoresetMode.SAME_STEP.value)


class CrystalSkeletonVectorEnv(
    SkeletonEnvSetup, VectorEnv[dict[str, np.ndarray], np.ndarray, np.ndarray]
):
    """A vector environment in which B crystal skeletons are filled in parallel.

    Spaces, rewards, arguments and infos are those of
    ``crystal_gym.envs.skeleton_env.CrystalSkeletonEnv``, with a leading axis B. In infos, each
    ``key`` is an array, and ``_key``, bool (B,), marks the environments for which it holds. All
    environments share one random number generator. A vector of one environment plays the same
    episodes as the single environment with the same seed.

    ``reset(options=…)`` takes one ``crystal`` and ``start_site`` for all environments, or B each.

    Args:
        num_envs: B.
        autoreset_mode: ``NextStep``: the step after the end of an episode ignores the action and
            starts the next episode with reward 0. ``SameStep``: the last step of an episode returns
            the first observation of the next one; ``infos["final_obs"]`` and
            ``infos["final_info"]`` contain the last observation and info of the finished one.
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
        mask: str | Mask = "none",
        render_mode: str | None = None,
        **instances: Unpack[InstanceKeywords],
    ) -> None:
        mode = autoreset_mode.value if isinstance(autoreset_mode, AutoresetMode) else autoreset_mode
        if mode not in AUTORESET_MODES:
            raise UnknownNameError("autoreset mode", mode, AUTORESET_MODES)
        if num_envs < 1:
            raise CrystalGymError(f"Expected num_envs to be at least 1, got {num_envs}.")
        self.num_envs = num_envs
        self.metadata = {**self.metadata, "autoreset_mode": AutoresetMode(mode)}
        self.single_observation_space, self.single_action_space = self._set_up(
            generator, instances, reward, mask, render_mode
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._max_episode_steps = _validate_limit(max_episode_steps)
        self._same_step = mode == AutoresetMode.SAME_STEP.value
        # Episodes that ended at the last step and restart at the next one.
        self._ended = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode in every environment.

        Args:
            seed: Seed of the random number generator (default: it continues).
            options: ``crystal`` and ``start_site``, one value for all environments or B values.

        Returns:
            Observations and infos.

        Raises:
            CrystalGymError: If an option is invalid, or a crystal or a site does not exist.
        """
        super().reset(seed=seed)
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
            ResetNeededError: If ``reset`` has not been called.
        """
        state = self._current_state()
        actions = self._validate_actions(actions)
        site = state.focus
        full = fill(state, actions)
        rewards = np.empty(self.num_envs)
        rewards[:] = self.reward.on_fill(self.table, state.crystal, site, actions + 1)
        terminations = full & ~self._ended
        truncations = (state.step >= self._max_episode_steps) & ~self._ended
        ended = terminations | truncations
        if self._ended.any():
            rewards[self._ended] = 0.0
            self._restart(state, self._ended)
        components: dict[str, np.ndarray] = {}
        if terminations.any():
            last, components = finish(
                self.reward,
                self.table,
                state.crystal[terminations],
                state.elements[terminations],
            )
            rewards[terminations] += last
        infos = self._scatter(components, terminations)
        if self._same_step:
            final = self._final_infos(state, ended, infos) if ended.any() else {}
            infos = self._infos(state) | final
        else:
            infos = self._infos(state) | infos
            self._ended = ended
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

    def _restart(self, state: EpisodeState, ended: np.ndarray) -> None:
        indices = np.flatnonzero(ended)
        draw = self.generator.draw(self.np_random, len(indices))
        restart(self.table, state, indices, *draw)

    def _infos(self, state: EpisodeState) -> dict[str, Any]:
        infos = {
            "action_mask": self.mask(self.table, state).view(np.int8),
            "crystal": state.crystal.copy(),
            "start_site": state.order[:, 0].copy(),
        }
        return infos | {f"_{name}": np.ones(self.num_envs, bool) for name in infos}

    def _scatter(self, components: dict[str, np.ndarray], ended: np.ndarray) -> dict[str, Any]:
        """Spread the components of k complete crystals over arrays (B,), and add ``_key`` masks.

        Args:
            components: Components by name, each (k,).
            ended: The episodes that terminated, bool (B,).
        """
        infos = {}
        for name, values in components.items():
            infos[name] = np.zeros(self.num_envs, np.asarray(values).dtype)
            infos[name][ended] = values
            infos[f"_{name}"] = ended.copy()
        return infos

    def _final_infos(
        self, state: EpisodeState, ended: np.ndarray, components: dict[str, Any]
    ) -> dict[str, Any]:
        """Return Gymnasium's ``final_obs`` and ``final_info``, and restart the ended episodes."""
        last = observe(self.table, state)
        info = self._infos(state)
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
            "final_info": info | components,
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
