"""Check imitation on flat observations."""

import gymnasium as gym
import minari
import numpy as np
from common import FLAT_ID, SEED, Check, PlainEpisodes, expect, run
from imitation.algorithms import bc
from imitation.data import rollout
from imitation.data.types import Trajectory
from imitation.data.wrappers import RolloutInfoWrapper
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from crystal_datasets import build_dataset


def _environments() -> DummyVecEnv:
    envs = DummyVecEnv([lambda: RolloutInfoWrapper(gym.make(FLAT_ID, split="val"))])
    envs.seed(SEED)
    return envs


def trajectories() -> str:
    """Compare random trajectories with the plain environment."""
    random = np.random.default_rng(SEED)
    envs = _environments()
    episodes = rollout.generate_trajectories(
        None, envs, rollout.make_sample_until(min_episodes=20), random, deterministic_policy=False
    )
    plain = PlainEpisodes(env_id=FLAT_ID, split="val")
    # imitation shuffles the trajectories.
    for episode in episodes:
        options = {name: int(episode.infos[0][name]) for name in ("crystal", "start_site")}
        plain.compare(episode.acts, episode.rews, episode.obs[0], episode.obs[-1], **options)
    return f"{len(episodes)} random episodes equal the plain environment"


def clone() -> str:
    """Clone the expert of a flat dataset with imitation's behavioral cloning."""
    dataset = minari.load_dataset(build_dataset("goldschmidt", "val", observations="flat"))
    demonstrations = [
        Trajectory(episode.observations, episode.actions, infos=None, terminal=True)
        for episode in dataset
    ]
    envs = _environments()
    trainer = bc.BC(
        observation_space=envs.observation_space,
        action_space=envs.action_space,
        rng=np.random.default_rng(SEED),
        demonstrations=rollout.flatten_trajectories(demonstrations),
        device="cpu",
        batch_size=64,
    )
    before, _ = evaluate_policy(trainer.policy, envs, 50)
    trainer.train(n_epochs=5, progress_bar=False)
    after, _ = evaluate_policy(trainer.policy, envs, 50)
    expect(after > before + 0.2, f"mean return {before:.2f} before and {after:.2f} after")
    return f"mean return {before:.2f} before and {after:.2f} after 5 epochs"


run(
    "imitation",
    [
        Check("`rollout.generate_trajectories`", trajectories, "flat observations"),
        Check("`bc.BC`", clone, "a flat dataset"),
    ],
)
