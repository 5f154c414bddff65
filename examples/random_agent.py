"""Run a random agent in 8 environments and compare its accuracy with chance, 1 in 65."""

import gymnasium as gym
import numpy as np

import crystal_gym  # noqa: F401 - registers the environment

env = gym.make_vec("CrystalSkeleton-v0", num_envs=8, collection="goldschmidt", split="test")
env.action_space.seed(0)
observations, infos = env.reset(seed=0)
matches: list[float] = []
while len(matches) < 2_000:
    observations, rewards, terminated, truncated, infos = env.step(env.action_space.sample())
    matches += infos["match"][terminated].tolist()
elements = env.single_action_space.n
print(f"{np.mean(matches):.2%} of the sites have the true element; chance is {1 / elements:.2%}.")
