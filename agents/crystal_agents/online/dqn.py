"""DQN of Stable-Baselines3 for a cloned actor."""

from typing import Any, cast

import numpy as np
import torch
from gymnasium.spaces import Discrete
from stable_baselines3 import DQN
from torch.nn import functional as F

from crystal_agents.online.critic_warm_up import CriticWarmUpMixin


class DoubleDQN(DQN):
    r"""DQN (Mnih et al., 2015) with double Q-learning and an optional conservative term.

    The online network chooses the next action of a target, the target network evaluates it (van
    Hasselt et al., 2016). The conservative term (Kumar et al., 2020) is

    .. math:: \alpha \left(\tau \log \sum_a e^{Q(s, a) / \tau} - Q(s, a_t)\right)

    with the temperature :math:`\tau` of the policy's dueling head. It lowers the values of actions
    that are rare in the replay buffer.

    Args:
        args: Positional arguments of Stable-Baselines3's ``DQN``.
        conservative: Coefficient :math:`\alpha`; 0: no conservative term.
        settings: Keyword arguments of Stable-Baselines3's ``DQN``.
    """

    def __init__(self, *args: Any, conservative: float = 0.0, **settings: Any) -> None:
        self.conservative = conservative
        super().__init__(*args, **settings)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Take gradient steps on minibatches of the replay buffer."""
        policy, buffer = cast(Any, self.policy), cast(Any, self.replay_buffer)
        policy.set_training_mode(True)
        self._update_learning_rate(policy.optimizer)
        losses = []
        for _ in range(gradient_steps):
            batch = buffer.sample(batch_size, env=self._vec_normalize_env)
            discounts = self.gamma if batch.discounts is None else batch.discounts
            with torch.no_grad():
                next_actions = self.q_net(batch.next_observations).argmax(1, keepdim=True)
                next_values = self.q_net_target(batch.next_observations).gather(1, next_actions)
                targets = batch.rewards + (1 - batch.dones) * discounts * next_values
            values = self.q_net(batch.observations)
            chosen = values.gather(1, batch.actions.long())
            loss = F.smooth_l1_loss(chosen, targets)
            if self.conservative:
                smooth = policy.temperature * (values / policy.temperature).logsumexp(1)
                loss = loss + self.conservative * (smooth - chosen[:, 0]).mean()
            policy.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), self.max_grad_norm)
            policy.optimizer.step()
            losses.append(loss.item())
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", float(np.mean(losses)))


class SkeletonDQN(CriticWarmUpMixin, DoubleDQN):
    """DQN with a dueling head (Wang et al., 2016).

    Each environment of a vector explores independently. Stable-Baselines3 draws once for all of
    them, so the fraction of random actions in a run would depend on few draws.
    """

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Choose actions; each is uniformly random with probability ``exploration_rate``.

        Args:
            observation: Observation of one environment or of B.
            state: State of a recurrent policy; returned unchanged.
            episode_start: Starts of episodes, for recurrent policies.
            deterministic: Do not explore.

        Returns:
            Actions, () or (B,), and the state.
        """
        actions, state = self.policy.predict(observation, state, episode_start, deterministic)
        if deterministic:
            return actions, state
        rng, n = self.action_space.np_random, cast(Discrete, self.action_space).n
        explores = rng.random(actions.shape) < self.exploration_rate
        return np.where(explores, rng.integers(n, size=actions.shape), actions), state
