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

# Of `final_info`, what is no figure of the finished crystal.
_NOT_METRICS = ("action_mask", "crystal", "start_site")


class SkeletonVecEnv(VecEnv):
    """B skeletons filled side by side, in the form that Stable-Baselines3 learns from.

    No environment is stepped by itself. Infos are empty but for the episodes that ended at this
    step; theirs hold ``terminal_observation``, ``TimeLimit.truncated`` (never), ``episode`` with
    return ``r``, length ``l`` and time ``t`` as ``Monitor`` writes them, and the figures of the
    finished crystal: ``match``, and the components of the reward.

    Args:
        env: made with ``autoreset_mode="SameStep"``: Stable-Baselines3 expects the observation
            after an episode's end to be the next one's first.

    Raises:
        CrystalGymError: it is no such environment.
    """

    def __init__(self, env: CrystalSkeletonVectorEnv | VectorEnv) -> None:
        native = env.unwrapped
        if not isinstance(native, CrystalSkeletonVectorEnv):
            raise CrystalGymError(f"A CrystalSkeletonVectorEnv is needed, not {env!r}.")
        if native.metadata["autoreset_mode"] != AutoresetMode.SAME_STEP:
            raise CrystalGymError(
                "Stable-Baselines3 resets at the step that ends an episode: make the vector "
                'environment with autoreset_mode="SameStep".'
            )
        self.env = native
        # Wrappers that were put around it see every step.
        self._stepped = env
        super().__init__(
            native.num_envs, native.single_observation_space, native.single_action_space
        )
        self._actions = np.zeros(self.num_envs, np.int64)
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._began = time.perf_counter()

    def reset(self) -> "VecEnvObs":
        """Begin an episode in every environment, with the seed and options that were set."""
        seed, options = self._seeds[0], _joined(self._options)
        # One random stream serves all environments: the first seed is the vector's.
        observations, _ = self._stepped.reset(seed=seed, options=options)
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0
        self._lengths[:] = 0
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Remember the actions, integers (B,)."""
        self._actions = actions

    def step_wait(self) -> tuple["VecEnvObs", np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Observations, rewards float32 (B,), ends of episodes bool (B,), and infos.

        Raises:
            CrystalGymError: a reward is NaN.
        """
        observations, rewards, ended, _, native = self._stepped.step(self._actions)
        _refuse_nan(rewards)
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if ended.any():
            self._tell_ends(infos, np.flatnonzero(ended), native)
            self._returns[ended] = 0
            self._lengths[ended] = 0
        return observations, rewards.astype(np.float32), ended, infos

    def _tell_ends(
        self, infos: list[dict[str, Any]], ended: np.ndarray, native: Mapping[str, Any]
    ) -> None:
        final = native["final_info"]
        names = [name for name in final if not name.startswith("_") and name not in _NOT_METRICS]
        # Python's own numbers, made of whole arrays at once.
        metrics = zip(*(final[name][ended].tolist() for name in names), strict=True)
        now = round(time.perf_counter() - self._began, 6)
        rows = zip(
            ended.tolist(),
            self._returns[ended].tolist(),
            self._lengths[ended].tolist(),
            metrics,
            strict=True,
        )
        last = native["final_obs"]
        for i, total, length, values in rows:
            infos[i] = {
                "terminal_observation": last[i],
                "TimeLimit.truncated": False,
                "episode": {"r": total, "l": length, "t": now},
                **dict(zip(names, values, strict=True)),
            }

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: "VecEnvIndices" = None) -> list[Any]:
        """The vector environment's attribute, which all environments share, for each of them."""
        value = getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: "VecEnvIndices" = None) -> None:
        """Set an attribute of the vector environment.

        Raises:
            CrystalGymError: for some environments only; they share their attributes.
        """
        if sorted(self._get_indices(indices)) != list(range(self.num_envs)):
            raise CrystalGymError(
                f"The environments of a native vector share {attr_name!r}: set it for all of them."
            )
        setattr(self.env, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: "VecEnvIndices" = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """The answers of a method that answers for all environments at once, such as its masks.

        Raises:
            CrystalGymError: a mask leaves an environment no element.
        """
        answers = getattr(self.env, method_name)(*method_args, **method_kwargs)
        if method_name == "action_masks":
            _refuse_empty(answers)
        if indices is None:
            return list(answers)
        return [answers[i] for i in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper], indices: "VecEnvIndices" = None
    ) -> list[bool]:
        """Of ``Monitor`` true, for the infos hold what it would write; of others false."""
        return [issubclass(Monitor, wrapper_class) for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        """A picture of each crystal, uint8 (height, width, 3)."""
        return self.env.render()


def _joined(options: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Options of each environment as the vector takes them: a list of B by name."""
    options = list(options)
    return {name: [one.get(name) for one in options] for name in options[0]} or None


def _refuse_nan(rewards: np.ndarray) -> None:
    strange = np.isnan(rewards)
    if strange.any():
        raise CrystalGymError(
            f"The reward of environment {int(np.argmax(strange))} is NaN; nothing can be learned "
            "from it. Rewards of labels pay NaN with missing='nan': take 'worst'."
        )


def _refuse_empty(masks: np.ndarray) -> None:
    left = masks.any(axis=1)
    if not left.all():
        row = int(np.argmin(left))
        raise CrystalGymError(
            f"The mask leaves no element for environment {row}; a policy can choose none. A mask "
            "must allow at least one element in every state that it lets come about."
        )
