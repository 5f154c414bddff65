"""The native vector environment as a ``VecEnv`` of Stable-Baselines3."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs

# Entries of `final_info` that are not metrics of the finished crystal.
_NOT_METRICS = ("action_mask", "crystal", "start_site")


class SkeletonVecEnv(VecEnv):
    """B skeletons in parallel, with the interface that Stable-Baselines3 requires.

    All environments step together. The info of an environment is empty unless its episode ended
    at this step. It then has the following entries:

    - ``terminal_observation``: the last observation of the episode,
    - ``TimeLimit.truncated``: whether the limit of steps ended an incomplete crystal,
    - ``episode``: return ``r``, length ``l`` and seconds ``t``, as ``Monitor`` writes them,
    - for a complete crystal, ``match`` and the components of the reward.

    Args:
        env: A native vector environment with ``autoreset_mode="SameStep"``, because
            Stable-Baselines3 expects the step that ends an episode to return the first observation
            of the next one. Wrappers around it see every step.

    Raises:
        CrystalGymError: If ``env`` is another environment or has another autoreset mode.
    """

    def __init__(self, env: CrystalSkeletonVectorEnv | VectorEnv) -> None:
        native = env.unwrapped
        if not isinstance(native, CrystalSkeletonVectorEnv):
            raise CrystalGymError(
                f"Expected a CrystalSkeletonVectorEnv, got {env!r}. Create one with gym.make_vec."
            )
        mode = native.metadata["autoreset_mode"]
        if mode != AutoresetMode.SAME_STEP:
            raise CrystalGymError(
                'Expected a vector environment with autoreset_mode="SameStep", got '
                f"{mode.value!r}. Stable-Baselines3 resets an environment in the step that ends "
                "its episode."
            )
        self.env = native
        self._wrapped = env
        # Wrappers change the observations, as `FlatVectorObservation` does.
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions = np.zeros(self.num_envs, np.int64)
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._start_time = time.perf_counter()

    def reset(self) -> "VecEnvObs":
        """Start an episode in every environment, with the seed and options that were set."""
        seed, options = self._seeds[0], _joined(self._options)
        # All environments share one random stream, so the first seed is the vector's.
        observations, _ = self._wrapped.reset(seed=seed, options=options)
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0
        self._lengths[:] = 0
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Store the actions of the next step, integers (B,)."""
        self._actions = actions

    def step_wait(self) -> tuple["VecEnvObs", np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step all environments.

        Returns:
            Observations, rewards float32 (B,), ends of episodes bool (B,), and infos.

        Raises:
            CrystalGymError: If a reward is NaN.
        """
        observations, rewards, terminated, truncated, native_infos = self._wrapped.step(
            self._actions
        )
        ended = terminated | truncated
        _check_rewards(rewards)
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if ended.any():
            self._fill_infos(infos, np.flatnonzero(ended), terminated, native_infos)
            self._returns[ended] = 0
            self._lengths[ended] = 0
        return observations, rewards.astype(np.float32), ended, infos

    def _fill_infos(
        self,
        infos: list[dict[str, Any]],
        ended: np.ndarray,
        terminated: np.ndarray,
        native_infos: Mapping[str, Any],
    ) -> None:
        """Write the infos of the environments whose episodes ended.

        Args:
            infos: The infos of all environments.
            ended: Environments whose episodes ended, int (E,).
            terminated: Whether the crystal of each environment is complete, bool (B,).
            native_infos: Infos of the native environment.
        """
        final = native_infos["final_info"]
        names = [name for name in final if not name.startswith("_") and name not in _NOT_METRICS]
        # Converting whole arrays to Python numbers is faster than converting single values.
        columns = [final[name][ended].tolist() for name in names]
        metrics = zip(*columns, strict=True) if columns else [()] * len(ended)
        now = round(time.perf_counter() - self._start_time, 6)
        rows = zip(
            ended.tolist(),
            self._returns[ended].tolist(),
            self._lengths[ended].tolist(),
            terminated[ended].tolist(),
            metrics,
            strict=True,
        )
        last_observations = native_infos["final_obs"]
        for i, total, length, complete, values in rows:
            infos[i] = {
                "terminal_observation": last_observations[i],
                "TimeLimit.truncated": not complete,
                "episode": {"r": total, "l": length, "t": now},
                **(dict(zip(names, values, strict=True)) if complete else {}),
            }

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: "VecEnvIndices" = None) -> list[Any]:
        """Return an attribute, which all environments share, once for each environment."""
        value = getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: "VecEnvIndices" = None) -> None:
        """Set an attribute of the vector environment.

        Raises:
            CrystalGymError: If ``indices`` do not include all environments, which share their
                attributes.
        """
        chosen = sorted(self._get_indices(indices))
        if chosen != list(range(self.num_envs)):
            raise CrystalGymError(
                f"Expected {attr_name!r} to be set for all {self.num_envs} environments, which "
                f"share it, got {chosen}. Leave the indices out."
            )
        setattr(self.env, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: "VecEnvIndices" = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method that returns one value per environment, such as ``action_masks``.

        Raises:
            CrystalGymError: If an action mask allows no element.
        """
        values = getattr(self.env, method_name)(*method_args, **method_kwargs)
        if method_name == "action_masks":
            _check_masks(values)
        if indices is None:
            return list(values)
        return [values[i] for i in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper], indices: "VecEnvIndices" = None
    ) -> list[bool]:
        """Return true for ``Monitor``, whose entries the infos contain, and false for others."""
        return [issubclass(Monitor, wrapper_class) for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Render each crystal as an image, uint8 (height, width, 3)."""
        return self.env.render()


def _joined(options: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Convert options of each environment to a list of B values by name."""
    options = list(options)
    return {name: [values.get(name) for values in options] for name in options[0]} or None


def _check_rewards(rewards: np.ndarray) -> None:
    """Raise an error if a reward is NaN."""
    missing = np.isnan(rewards)
    if missing.any():
        raise CrystalGymError(
            f"Expected numbers as rewards, got NaN in environment {int(np.argmax(missing))}. "
            "Rewards that look up labels return NaN with missing='nan'; choose missing='worst'."
        )


def _check_masks(masks: np.ndarray) -> None:
    """Raise an error if a mask allows no element."""
    possible = masks.any(axis=1)
    if not possible.all():
        raise CrystalGymError(
            f"Expected a mask with at least one element, got none in environment "
            f"{int(np.argmin(possible))}. A mask must allow an element in every state that its "
            "allowed actions can reach."
        )
