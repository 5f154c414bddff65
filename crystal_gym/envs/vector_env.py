"""The native vector environment: arrays in, arrays out."""

from typing import TYPE_CHECKING, Any, Unpack

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from crystal_gym.envs.generator import InstanceGenerator, InstanceKeywords
from crystal_gym.envs.setup import check_render_mode, resolve_generator
from crystal_gym.episode import EpisodeState, fill, observation_space, observe, restart, start
from crystal_gym.errors import (
    CrystalGymError,
    InvalidActionError,
    ResetNeededError,
    UnknownNameError,
)
from crystal_gym.masks import Mask, resolve_mask
from crystal_gym.rewards import finish, resolve_reward

if TYPE_CHECKING:
    from crystal_gym.rewards.registry import RewardLike

AUTORESET_MODES = (AutoresetMode.NEXT_STEP.value, AutoresetMode.SAME_STEP.value)


class CrystalSkeletonVectorEnv(VectorEnv[dict[str, np.ndarray], np.ndarray, np.ndarray]):
    """B skeletons filled side by side, without a loop over them.

    Spaces, rewards, arguments and infos are those of ``crystal_gym.envs.skeleton_env.CrystalSkeletonEnv``, with a
    leading axis B. In infos each ``key`` is an array, and ``_key``, bool (B,), tells for which
    environments it holds. One random stream serves all; a vector of one plays the same episodes as
    the single environment from the same seed.

    ``reset(options=…)`` takes one ``crystal`` and ``source`` for all, or B of them.

    Args:
        num_envs: B.
        autoreset_mode: ``NextStep``: the step after an episode's end ignores the action and begins
            the next episode with reward 0. ``SameStep``: the last step itself returns the next
            episode's start; ``infos["final_obs"]`` and ``infos["final_info"]`` hold the end.
        generator: draws crystals and orders (default: made from the other keywords).
        reward: see the single environment.
        mask: see the single environment; a function gets a batch.
        render_mode: ``ansi`` or ``rgb_array``.
        **instances: see ``crystal_gym.envs.generator.InstanceGenerator``.
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
        generator: InstanceGenerator | None = None,
        reward: "RewardLike" = "match",
        mask: str | Mask = "none",
        render_mode: str | None = None,
        **instances: Unpack[InstanceKeywords],
    ) -> None:
        check_render_mode(render_mode, self.metadata["render_modes"])
        mode = autoreset_mode.value if isinstance(autoreset_mode, AutoresetMode) else autoreset_mode
        if mode not in AUTORESET_MODES:
            raise UnknownNameError("autoreset mode", mode, AUTORESET_MODES)
        if num_envs < 1:
            raise CrystalGymError(f"A vector environment needs at least one, not {num_envs}.")
        self.num_envs = num_envs
        self.metadata = {**self.metadata, "autoreset_mode": AutoresetMode(mode)}
        self.generator = resolve_generator(generator, instances)
        self.reward = resolve_reward(reward)
        self.mask = resolve_mask(mask)
        self.render_mode = render_mode
        table = self.table = self.generator.table
        self.reward.prepare(table)
        self.single_observation_space = observation_space(
            table.max_sites, table.max_edges, table.n_elements
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.single_action_space = spaces.Discrete(table.n_elements)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._same_step = mode == AutoresetMode.SAME_STEP.value
        self._state: EpisodeState | None = None
        # Episodes that ended at the last step and begin anew at the next.
        self._over = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin an episode in every environment."""
        super().reset(seed=seed)
        draw = self.generator.draw(self.np_random, self.num_envs, options)
        self._state = start(self.table, *draw)
        self._over = np.zeros(self.num_envs, bool)
        return observe(self.table, self._state), self._infos(self._state)

    def step(
        self, actions: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Put an element on the site in focus of every crystal.

        Args:
            actions: integers from 0 to V - 1, (B,).

        Returns:
            Observations, rewards float64 (B,), terminations and truncations bool (B,), infos.

        Raises:
            InvalidActionError: an action is out of range, or their number or type is wrong.
            ResetNeededError: before the first reset.
        """
        state = self._under_way()
        actions = self._checked(actions)
        site = state.focus
        full = fill(state, actions)
        rewards = np.empty(self.num_envs)
        rewards[:] = self.reward.on_fill(self.table, state.crystal, site, actions + 1)
        terminations = full & ~self._over
        if self._over.any():
            rewards[self._over] = 0.0
            self._restart(state, self._over)
        ended: dict[str, Any] = {}
        if terminations.any():
            last, ended = finish(
                self.reward,
                self.table,
                state.crystal[terminations],
                state.elements[terminations],
            )
            rewards[terminations] += last
        if self._same_step:
            final = self._final(state, terminations, ended) if ended else {}
            infos = self._infos(state) | final
        else:
            infos = self._infos(state) | self._masked(ended, terminations)
            self._over = terminations.copy()
        truncations = np.zeros(self.num_envs, bool)
        return observe(self.table, state), rewards, terminations, truncations, infos

    def action_masks(self) -> np.ndarray:
        """The elements that the mask allows on the sites in focus, bool (B, V)."""
        return self.mask(self.table, self._under_way())

    def expert_action(self) -> np.ndarray:
        """The actions that put the source crystals' elements on the sites in focus, int64 (B,)."""
        state = self._under_way()
        return self.table.true_elements[state.crystal, state.focus].astype(np.int64) - 1

    def render(self) -> Any:
        """The crystals as texts or as uint8 (height, width, 3), a tuple of B."""
        if self.render_mode is None:
            gym.logger.warn("No picture without a render_mode; pass one to gymnasium.make_vec.")
            return None
        from crystal_gym.envs import rendering

        scenes = rendering.scenes(self.table, self._under_way())
        return tuple(s.text() if self.render_mode == "ansi" else s.pixels() for s in scenes)

    def _under_way(self) -> EpisodeState:
        if self._state is None:
            raise ResetNeededError("There are no episodes yet. Call reset() first.")
        return self._state

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        actions = np.asarray(actions)
        if (
            actions.shape != (self.num_envs,)
            or actions.dtype.kind not in "iu"
            or actions.min() < 0
            or actions.max() >= self.table.n_elements
        ):
            raise InvalidActionError(
                f"Actions are {self.num_envs} integers from 0 to {self.table.n_elements - 1}, "
                f"not {actions!r}."
            )
        return actions.astype(np.int64, copy=False)

    def _restart(self, state: EpisodeState, which: np.ndarray) -> None:
        indices = np.flatnonzero(which)
        draw = self.generator.draw(self.np_random, len(indices))
        restart(self.table, state, indices, *draw)

    def _infos(self, state: EpisodeState) -> dict[str, Any]:
        always = {
            "action_mask": self.mask(self.table, state).view(np.int8),
            "crystal": state.crystal.copy(),
            "start_site": state.order[:, 0].copy(),
        }
        return always | {f"_{name}": np.ones(self.num_envs, bool) for name in always}

    def _masked(self, values: dict[str, np.ndarray], which: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays (B,) with the k values where ``which`` holds, and their ``_key`` masks."""
        infos = {}
        for name, some in values.items():
            infos[name] = np.zeros(self.num_envs, np.asarray(some).dtype)
            infos[name][which] = some
            infos[f"_{name}"] = which.copy()
        return infos

    def _final(
        self, state: EpisodeState, which: np.ndarray, ended: dict[str, np.ndarray]
    ) -> dict[str, Any]:
        """The ends of the episodes that are over, and their next beginnings put into ``state``."""
        last = observe(self.table, state)
        info = self._infos(state)
        for name in [name for name in info if name.startswith("_")]:
            info[name] = which.copy()
        observations = np.full(self.num_envs, None, object)
        # Gymnasium's form of `final_obs`: one observation for each that ended.
        for i in np.flatnonzero(which):
            observations[i] = {name: values[i] for name, values in last.items()}
        self._restart(state, which)
        return {
            "final_obs": observations,
            "_final_obs": which.copy(),
            "final_info": info | self._masked(ended, which),
            "_final_info": which.copy(),
        }
