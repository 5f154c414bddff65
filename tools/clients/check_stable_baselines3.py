"""Check Stable-Baselines3 and its contrib package."""

import os
from typing import Any

import gymnasium as gym
import numpy as np
from common import ENV_ID, FLAT_ID, SEED, Check, PlainEpisodes, expect, run
from sb3_contrib import QRDQN, TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    SubprocVecEnv,
    VecEnv,
    VecFrameStack,
    VecNormalize,
)

from crystal_agents import SkeletonVecEnv
from crystal_gym import CrystalSkeletonVectorEnv

N_ENVS = 2


def checker() -> None:
    """Run the checker of Stable-Baselines3."""
    for env_id in (ENV_ID, FLAT_ID):
        check_env(gym.make(env_id).unwrapped)


def _compare(envs: VecEnv, plain: list[PlainEpisodes], n_steps: int = 50) -> int:
    """Compare random episodes with those of plain environments; return their number."""
    observations = envs.reset()
    rows: list[list[tuple[Any, int, float]]] = [[] for _ in range(N_ENVS)]
    count = 0
    for _ in range(n_steps):
        actions = np.array([envs.action_space.sample() for _ in range(N_ENVS)])
        following, rewards, ended, infos = envs.step(actions)
        for i in range(N_ENVS):
            first = {name: values[i] for name, values in observations.items()}
            rows[i].append((first, int(actions[i]), float(rewards[i])))
            if ended[i]:
                firsts, episode, gained = zip(*rows[i], strict=True)
                plain[i].compare(episode, gained, firsts[0], infos[i]["terminal_observation"])
                rows[i] = []
                count += 1
        observations = following
    envs.close()
    expect(count == N_ENVS * n_steps // 5, f"{count} episodes")
    return count


def vector_environments() -> str:
    """Compare DummyVecEnv and SubprocVecEnv with the plain environment."""
    count = 0
    for kind, settings in ((None, None), (SubprocVecEnv, {"start_method": "spawn"})):
        envs = make_vec_env(ENV_ID, N_ENVS, SEED, vec_env_cls=kind, vec_env_kwargs=settings)
        count += _compare(envs, [PlainEpisodes(SEED + i) for i in range(N_ENVS)])
    return f"{count} random episodes equal the plain environment"


def algorithms() -> str:
    """Train each algorithm for some steps, save it, load it and predict."""
    minibatches, replay = {"n_steps": 10, "batch_size": 20}, {"learning_starts": 20}
    classes: list[tuple[type[BaseAlgorithm], dict[str, Any]]] = [
        (PPO, minibatches),
        (A2C, {}),
        (DQN, replay),
        (QRDQN, replay),
        (TRPO, minibatches),
        (RecurrentPPO, minibatches),
        (MaskablePPO, minibatches),
    ]
    for algorithm, settings in classes:
        envs = make_vec_env(ENV_ID, 4, SEED)
        policy = "MultiInputLstmPolicy" if algorithm is RecurrentPPO else "MultiInputPolicy"
        model = algorithm(policy, envs, seed=SEED, **settings).learn(80)
        model.save("model")
        observations = envs.reset()
        action, _ = model.predict(observations, deterministic=True)
        loaded, _ = algorithm.load("model").predict(observations, deterministic=True)
        expect((action == loaded).all(), f"{algorithm.__name__}: the loaded model differs")
    return ", ".join(f"`{algorithm.__name__}`" for algorithm, _ in classes)


def masks() -> None:
    """MaskablePPO draws only actions that the mask allows."""
    env = gym.make(ENV_ID, mask="composition")
    model = MaskablePPO("MultiInputPolicy", env, n_steps=20, batch_size=20, seed=SEED).learn(60)
    observation, _ = env.reset(seed=SEED)
    for _ in range(100):
        allowed = env.unwrapped.action_masks()
        action, _ = model.predict(observation, action_masks=allowed)
        expect(bool(allowed[action]), "an action that the mask does not allow")
        observation, _, ended, _, _ = env.step(action)
        if ended:
            observation, _ = env.reset()


def native() -> str:
    """PPO learns on the native vector environment."""
    envs = CrystalSkeletonVectorEnv(128, autoreset_mode="SameStep", mask="composition")
    envs = SkeletonVecEnv(envs)
    envs.seed(SEED)
    model = PPO("MultiInputPolicy", envs, n_steps=10, batch_size=320, seed=SEED, gamma=1.0)
    before, _ = evaluate_policy(model, envs, 512, deterministic=False)
    model.learn(40_000)
    after, _ = evaluate_policy(model, envs, 512, deterministic=False)
    measured = f"return {before:.2f} before and {after:.2f} after 40,000 steps"
    expect(after > before + 0.02, measured)
    return measured


def wrappers() -> None:
    """Frames are stacked, observations and rewards normalized."""
    envs = make_vec_env(FLAT_ID, N_ENVS, SEED, wrapper_class=Monitor)
    width = envs.observation_space.shape[0]
    envs = VecNormalize(VecFrameStack(envs, 3))
    expect(envs.observation_space.shape == (3 * width,), f"shape {envs.observation_space.shape}")
    PPO("MlpPolicy", envs, n_steps=10, batch_size=20).learn(40)
    expect(np.isfinite(envs.reset()).all(), "normalized observations are not finite")


os.environ["CUDA_VISIBLE_DEVICES"] = ""
if __name__ == "__main__":  # spawned processes import this file
    run(
        "stable-baselines3",
        [
            Check("`check_env`", checker),
            Check("`DummyVecEnv`, `SubprocVecEnv`", vector_environments),
            Check("training, `save`, `load`, `predict`", algorithms),
            Check("masks of `MaskablePPO`", masks),
            Check("`PPO` on the native vector environment", native, "`SkeletonVecEnv`"),
            Check("`VecFrameStack`, `VecNormalize`", wrappers, "flat observations"),
        ],
    )
