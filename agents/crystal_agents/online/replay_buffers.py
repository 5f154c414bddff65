"""A replay buffer with returns over several steps."""

from typing import Any

import numpy as np
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize


class NStepReplayBuffer(DictReplayBuffer):
    """Replay buffer for dictionary observations with n-step returns.

    Stable-Baselines3 has n-step returns for array observations only.

    Args:
        args: Positional arguments of ``DictReplayBuffer``.
        n_steps: Number of rewards in a return. It ends earlier at the end of an episode and at the
            newest transition.
        gamma: Discount factor.
        settings: Keyword arguments of ``DictReplayBuffer``.
    """

    def __init__(self, *args: Any, n_steps: int = 1, gamma: float = 1.0, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.n_steps = n_steps
        self.gamma = gamma

    def _get_samples(
        self, batch_inds: np.ndarray, env: VecNormalize | None = None
    ) -> DictReplayBufferSamples:
        envs = np.random.randint(self.n_envs, size=len(batch_inds))  # noqa: NPY002 - SB3's own generator
        newest = (self.pos - 1) % self.buffer_size
        last = batch_inds.copy()
        returns = self._normalize_reward(self.rewards[last, envs], env).astype(np.float32)
        discounts = np.full(len(last), self.gamma, np.float32)
        for _ in range(self.n_steps - 1):
            goes_on = (self.dones[last, envs] == 0) & (last != newest)
            if not goes_on.any():
                break
            last = np.where(goes_on, (last + 1) % self.buffer_size, last)
            rewards = self._normalize_reward(self.rewards[last, envs], env)
            returns += np.where(goes_on, discounts * rewards, 0)
            discounts[goes_on] *= self.gamma

        def tensors(stored: dict[str, np.ndarray], steps: np.ndarray) -> dict[str, Any]:
            chosen: Any = self._normalize_obs(
                {key: values[steps, envs] for key, values in stored.items()}, env
            )
            return {key: self.to_torch(values) for key, values in chosen.items()}

        # A time limit is no end: the value of the state after it counts.
        is_end = self.dones[last, envs] * (1 - self.timeouts[last, envs])
        return DictReplayBufferSamples(
            observations=tensors(self.observations, batch_inds),
            actions=self.to_torch(self.actions[batch_inds, envs]),
            next_observations=tensors(self.next_observations, last),
            dones=self.to_torch(is_end[:, None]),
            rewards=self.to_torch(returns[:, None]),
            discounts=self.to_torch(discounts[:, None]),
        )
