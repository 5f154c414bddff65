"""Check d3rlpy on flat datasets and flat observations."""

import d3rlpy
import gymnasium as gym
import minari
from common import FLAT_ID, SEED, Check, PlainEpisodes, expect, run
from upstream import confirm

from crystal_datasets import build_dataset, flat_arrays, load_transitions


def offline() -> str:
    """Compare a dataset in d3rlpy with the plain environment, and train DiscreteCQL."""
    name = build_dataset("goldschmidt", "val")
    transitions = load_transitions(name)
    dataset = d3rlpy.dataset.MDPDataset(
        **flat_arrays(transitions), action_size=len(transitions.vocabulary)
    )
    env = gym.make(FLAT_ID, split="val")
    plain = PlainEpisodes(env_id=FLAT_ID)
    indices = range(0, len(dataset.episodes), 50)
    metadata = minari.load_dataset(name).storage.get_episode_metadata(indices)
    for index, start in zip(indices, metadata, strict=True):
        episode = dataset.episodes[index]
        options = {key: start[key] for key in ("crystal", "start_site")}
        expect(bool(episode.terminated), "an episode that is not terminated")
        plain.compare(
            episode.actions[:, 0], episode.rewards[:, 0], episode.observations[0], **options
        )
    cql = d3rlpy.algos.DiscreteCQLConfig(gamma=1.0, batch_size=128, learning_rate=1e-3).create()
    cql.fit(dataset, n_steps=600, n_steps_per_epoch=600, show_progress=False)
    score = d3rlpy.metrics.evaluate_qlearning_with_environment(cql, env, n_trials=100)
    expect(score > 0.1, f"mean return {score:.2f}")
    return f"mean return {score:.2f} after 600 steps of `DiscreteCQL` (random: 0.02)"


def get_minari() -> str:
    """Load a flat dataset without an error, and confirm the defect of its values."""
    name = build_dataset("goldschmidt", "val", observations="flat", trajectories=1)
    dataset, env = d3rlpy.datasets.get_minari(name)
    expect(env.observation_space.shape == dataset.episodes[0].observations.shape[1:], "shapes")
    return confirm("d3rlpy-minari")


def online() -> str:
    """Train DQN online, and compare the replay buffer with the plain environment."""
    env = gym.make(FLAT_ID)
    d3rlpy.envs.seed_env(env, SEED)
    buffer = d3rlpy.dataset.create_fifo_replay_buffer(limit=1000, env=env)
    dqn = d3rlpy.algos.DQNConfig(batch_size=32).create()
    dqn.fit_online(
        env, buffer, n_steps=200, n_steps_per_epoch=100, update_start_step=50, show_progress=False
    )
    # d3rlpy resets the environment once more before the first episode.
    plain = PlainEpisodes(env_id=FLAT_ID)
    plain.skip()
    episodes = [episode for episode in buffer.episodes if episode.terminated]
    for episode in episodes:
        plain.compare(episode.actions[:, 0], episode.rewards[:, 0], episode.observations[0])
    expect(len(episodes) >= 30, f"{len(episodes)} episodes")
    return f"{len(episodes)} episodes of the replay buffer equal the plain environment"


run(
    "d3rlpy",
    [
        Check("`MDPDataset`, `DiscreteCQL`", offline, "`flat_arrays`"),
        Check("`fit_online` of `DQN`", online, "flat observations"),
        Check(
            "[`get_minari` shifts the observations of all episodes but the first]"
            "(upstream/d3rlpy-minari.md)",
            get_minari,
            defect=True,
        ),
    ],
)
