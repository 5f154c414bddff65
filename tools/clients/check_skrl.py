"""Check skrl on the native vector environment."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from common import ENV_ID, FLAT_ID, SEED, Check, PlainEpisodes, expect, run
from skrl.agents.torch.ppo import PPO, PPO_CFG
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, Model
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from skrl.utils.spaces.torch import unflatten_tensorized_space


class _Policy(CategoricalMixin, Model):
    def __init__(self, *args: Any) -> None:
        Model.__init__(self, observation_space=args[0], action_space=args[1], device="cpu")
        CategoricalMixin.__init__(self)
        self.net = _network(self.num_observations, self.num_actions)

    def compute(self, inputs: dict[str, Any], role: str) -> tuple[torch.Tensor, dict]:
        return self.net(inputs["observations"].float()), {}


class _Value(DeterministicMixin, Model):
    def __init__(self, *args: Any) -> None:
        Model.__init__(self, observation_space=args[0], action_space=args[1], device="cpu")
        DeterministicMixin.__init__(self)
        self.net = _network(self.num_observations, 1)

    def compute(self, inputs: dict[str, Any], role: str) -> tuple[torch.Tensor, dict]:
        return self.net(inputs["observations"].float()), {}


def _network(inputs: int, outputs: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Linear(inputs, 64), torch.nn.Tanh(), torch.nn.Linear(64, outputs)
    )


def vector() -> str:
    """Compare random episodes of the wrapped native vector with the plain environment."""
    set_seed(SEED)
    env = wrap_env(gym.make_vec(ENV_ID, num_envs=1, autoreset_mode="SameStep"), verbose=False)
    plain = PlainEpisodes()
    observation, _ = env.reset()
    for _ in range(20):
        first = _as_dict(env, observation)
        actions, rewards, ended = [], [], False
        while not ended:
            action = torch.randint(env.action_space.n, (1, 1))
            observation, reward, terminated, _, infos = env.step(action)
            actions.append(action.item())
            rewards.append(reward.item())
            ended = terminated.item()
        plain.compare(actions, rewards, first, infos["final_obs"][0])
    return "20 random episodes equal the plain environment"


def _as_dict(env: Any, observation: torch.Tensor) -> dict[str, np.ndarray]:
    """Return the Dict observation of a flat one, without the batch axis."""
    values = unflatten_tensorized_space(env.observation_space, observation)
    return {
        name: np.asarray(value[0]).reshape(env.observation_space[name].shape)
        for name, value in values.items()
    }


def train() -> str:
    """Train PPO on the native vector environment."""
    set_seed(SEED)
    env = wrap_env(gym.make_vec(FLAT_ID, num_envs=64), verbose=False)
    spaces = env.observation_space, env.action_space
    models = {"policy": _Policy(*spaces), "value": _Value(*spaces)}
    memory = RandomMemory(memory_size=10, num_envs=64, device="cpu")
    configuration = PPO_CFG(rollouts=10)
    configuration.experiment.write_interval = 0
    configuration.experiment.checkpoint_interval = 0
    agent = PPO(
        models=models,
        memory=memory,
        observation_space=spaces[0],
        action_space=spaces[1],
        device="cpu",
        cfg=configuration,
    )
    before = [parameter.detach().clone() for parameter in models["policy"].parameters()]
    SequentialTrainer(
        env=env, agents=agent, cfg={"timesteps": 60, "headless": True, "disable_progressbar": True}
    ).train()
    after = list(models["policy"].parameters())
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    expect(all(changed), "parameters that do not change")
    expect(all(bool(parameter.isfinite().all()) for parameter in after), "infinite parameters")
    return "3,840 steps of PPO"


run(
    "skrl",
    [
        Check("`wrap_env` of the native vector environment", vector),
        Check("`PPO` with `SequentialTrainer`", train, "flat observations"),
    ],
)
