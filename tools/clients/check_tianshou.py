"""Check tianshou."""

import gymnasium as gym
import numpy as np
from common import ENV_ID, FLAT_ID, SEED, Check, PlainEpisodes, expect, run, split_episodes
from tianshou.algorithm import DQN
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, SubprocVectorEnv
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils.net.common import Net

N_ENVS = 2


def _make(env_id: str) -> gym.Env:
    import crystal_gym  # noqa: F401 - registers the environments

    return gym.make(env_id)


def _algorithm(env: gym.Env, **settings: float) -> DQN:
    net = Net(
        state_shape=env.observation_space.shape or 1,
        action_shape=int(env.action_space.n),
        hidden_sizes=[64],
    )
    policy = DiscreteQLearningPolicy(
        model=net,
        action_space=env.action_space,
        observation_space=env.observation_space,
        **settings,
    )
    return DQN(policy=policy, optim=AdamOptimizerFactory(lr=1e-3), target_update_freq=100)


def collect() -> str:
    """Compare random episodes of a collector with the plain environment."""
    count = 0
    for kind in (DummyVectorEnv, SubprocVectorEnv):
        for env_id in (ENV_ID, FLAT_ID):
            envs = kind([lambda env_id=env_id: _make(env_id) for _ in range(N_ENVS)])
            envs.seed([SEED + i for i in range(N_ENVS)])
            buffer = VectorReplayBuffer(200, N_ENVS)
            algorithm = _algorithm(_make(FLAT_ID))
            collector = Collector(algorithm, envs, buffer)
            collector.reset()
            collector.collect(n_step=50, random=True)
            plain = PlainEpisodes(env_id=env_id)
            for part in buffer.buffers:
                batch, _ = part.sample(0)
                for steps in split_episodes(batch.terminated):
                    first, last = batch.obs[steps][0], batch.obs_next[steps][-1]
                    if env_id == ENV_ID:
                        first, last = (
                            {name: np.asarray(obs[name]) for name in obs.get_keys()}
                            for obs in (first, last)
                        )
                    options = {
                        name: int(batch.info[name][steps][0]) for name in ("crystal", "start_site")
                    }
                    plain.compare(batch.act[steps], batch.rew[steps], first, last, **options)
                    count += 1
            envs.close()
    expect(count >= 35, f"{count} episodes")
    return f"{count} random episodes equal the plain environment"


def train() -> str:
    """Train DQN with tianshou's trainer."""
    envs = DummyVectorEnv([lambda: _make(FLAT_ID) for _ in range(N_ENVS)])
    algorithm = _algorithm(_make(FLAT_ID), eps_training=0.2)
    collector = Collector(algorithm, envs, VectorReplayBuffer(1000, N_ENVS))
    collector.reset()
    result = algorithm.run_training(
        OffPolicyTrainerParams(
            training_collector=collector,
            max_epochs=1,
            epoch_num_steps=300,
            collection_step_num_env_steps=10,
            batch_size=64,
            test_in_training=False,
        )
    )
    expect(result.train_step >= 300, f"{result.train_step} steps")
    return f"{result.train_step} steps of DQN"


if __name__ == "__main__":
    run(
        "tianshou",
        [
            Check("`DummyVectorEnv`, `SubprocVectorEnv`, `Collector`", collect),
            Check("`DQN` with its trainer", train, "flat observations"),
        ],
    )
