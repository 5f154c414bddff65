"""Check RLlib."""

import os
from typing import Any

import gymnasium as gym
import numpy as np
from common import FLAT_ID, SEED, Check, PlainEpisodes, expect, run

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def train() -> str:
    """Train PPO for an iteration, and compare its episodes with the plain environment."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.tune.registry import register_env

    register_env("crystals", lambda _: gym.make(FLAT_ID))
    configuration = (
        PPOConfig()
        .environment("crystals")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=1)
        .training(train_batch_size=400, minibatch_size=100, num_epochs=2)
        .debugging(seed=SEED)
    )
    algorithm = configuration.build_algo()
    episodes = algorithm.env_runner.sample(num_episodes=20, random_actions=True)
    plain = PlainEpisodes(env_id=FLAT_ID)
    for episode in episodes:
        expect(episode.is_terminated, "an episode that is not terminated")
        observations, infos = episode.get_observations(), episode.get_infos()
        options: dict[str, Any] = {
            name: int(np.asarray(infos[0][name])) for name in ("crystal", "start_site")
        }
        plain.compare(
            episode.get_actions(),
            episode.get_rewards(),
            observations[0],
            observations[-1],
            **options,
        )
    result = algorithm.train()
    returns = result["env_runners"]["episode_return_mean"]
    expect(0 <= returns <= 1, f"mean return {returns}")
    algorithm.stop()
    return f"{len(episodes)} random episodes equal the plain environment; one iteration of PPO"


run("ray", [Check("`PPO`", train, "flat observations")])
