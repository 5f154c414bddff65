"""Agreement of the datasets with the environment and with Minari's official writer."""

import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from crystal_agents import load_policy
from crystal_datasets import (
    EpisodeRecorder,
    RecordEpisodes,
    build_dataset,
    hdf5_file,
    mixed,
    write_replay,
)
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv

pytestmark = [
    pytest.mark.usefixtures("cache"),
    pytest.mark.filterwarnings("ignore:.*env_spec is None"),
    pytest.mark.filterwarnings("ignore:.*eval_env. is set to None"),
]

PROVENANCE = ("algorithm_name", "author", "author_email", "code_permalink", "description")
SCORES = ("ref_min_score", "ref_max_score", "num_episodes_average_score")


def play(env, crystal, start_site, actions):
    """Play one episode of the environment; return it as the official writer expects it."""
    observation, _ = env.reset(options={"crystal": crystal, "start_site": start_site})
    observations, rewards, terminations, truncations = [observation], [], [], []
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        rewards.append(reward)
        terminations.append(terminated)
        truncations.append(truncated)
    return EpisodeBuffer(
        observations={key: [o[key] for o in observations] for key in observations[0]},
        actions=list(actions),
        rewards=rewards,
        terminations=terminations,
        truncations=truncations,
        infos={},
    )


def expert_actions(env, crystal, start_site):
    env.reset(options={"crystal": crystal, "start_site": start_site})
    actions, terminated = [], False
    while not terminated:
        actions.append(env.expert_action())
        terminated = env.step(actions[-1])[2]
    return actions


def write_officially(name, dataset, env, episodes, keys=PROVENANCE):
    """Replay a dataset's episodes in the environment and write them with Minari's own writer."""
    buffers = [
        play(env, entry["crystal"], entry["start_site"], episode.actions)
        for entry, episode in zip(episodes, dataset.iterate_episodes(), strict=True)
    ]
    return minari.create_dataset_from_buffers(
        name,
        buffers,
        observation_space=env.observation_space,
        action_space=env.action_space,
        **{key: dataset.storage.metadata[key] for key in keys},
    )


def assert_same_episodes(dataset, official):
    assert len(dataset) == len(official)
    pairs = zip(dataset.iterate_episodes(), official.iterate_episodes(), strict=True)
    for episode, expected in pairs:
        assert episode.id == expected.id
        assert episode.infos == expected.infos == {}
        assert list(episode.observations) == list(expected.observations)
        arrays = [(episode.observations[k], expected.observations[k]) for k in episode.observations]
        arrays += [
            (getattr(episode, key), getattr(expected, key))
            for key in ("actions", "rewards", "terminations", "truncations")
        ]
        for array, expected_array in arrays:
            assert array.dtype == expected_array.dtype
            assert np.array_equal(array, expected_array)


@pytest.mark.parametrize("compact_limit", [60_000, 100])
def test_expert_dataset_equals_the_official_writer(
    toy, folder, monkeypatch, episode_metadata, compact_limit
):
    monkeypatch.setattr(hdf5_file, "COMPACT_LIMIT", compact_limit)
    dataset = minari.load_dataset(build_dataset(toy, "train", progress=False))
    episodes = episode_metadata(dataset)
    env = CrystalSkeletonEnv(collection=toy)
    for entry, episode in zip(episodes, dataset.iterate_episodes(), strict=True):
        expected = expert_actions(env, entry["crystal"], entry["start_site"])
        assert episode.actions.tolist() == expected
    official = write_officially(
        "crystal-gym/toy/official-v0",
        dataset,
        env,
        episodes,
        (*PROVENANCE, "requirements", *SCORES),
    )
    official.storage.update_episode_metadata(
        {key: entry[key] for key in ("crystal", "row", "split", "start_site")} for entry in episodes
    )
    assert_same_episodes(dataset, official)
    assert episodes == episode_metadata(official)
    # The official writer keeps scores only for datasets with an environment.
    excluded = {"crystal_gym", "dataset_id", "dataset_size", *SCORES}
    metadata, expected = dataset.storage.metadata, official.storage.metadata
    assert {k: v for k, v in metadata.items() if k not in excluded} == {
        k: v for k, v in expected.items() if k not in excluded
    }
    assert set(metadata) - excluded <= set(expected)
    assert dataset.observation_space == env.observation_space
    assert dataset.action_space == env.action_space


@pytest.fixture(params=["expert", "random", "mixed"])
def behavior(request, constant_policy):
    if request.param == "mixed":
        return mixed(constant_policy(2, 5), "always Mg")
    return request.param


@pytest.mark.parametrize("reward", ["match", "validity"])
def test_every_behavior_equals_the_official_writer(toy, folder, episode_metadata, behavior, reward):
    dataset = minari.load_dataset(
        build_dataset(toy, "train", behavior, reward=reward, progress=False)
    )
    env = CrystalSkeletonEnv(collection=toy, reward=reward)
    official = write_officially(
        "crystal-gym/toy/official-v0", dataset, env, episode_metadata(dataset)
    )
    assert_same_episodes(dataset, official)


@pytest.mark.real
def test_mixture_on_perov_5_equals_the_official_writer(perov5, folder, episode_metadata):
    few = perov5.take(np.arange(0, 600, 20))
    policy = load_policy("perov-5/egnn")
    name = build_dataset(
        few,
        "train",
        mixed(policy.probabilities, "perov-5/egnn"),
        reward="validity",
        vocabulary=policy.vocabulary,
        progress=False,
    )
    assert name == "crystal-gym/perov-5/mixed-train-validity-v0"
    dataset = minari.load_dataset(name)
    env = CrystalSkeletonEnv(collection=few, reward="validity", vocabulary=policy.vocabulary)
    official = write_officially(
        "crystal-gym/perov-5/official-v0", dataset, env, episode_metadata(dataset)
    )
    assert_same_episodes(dataset, official)
    statistics = dataset.storage.metadata["crystal_gym"]["returns_by"]
    assert statistics["expert"]["mean"] > statistics["random"]["mean"]


def test_replay_equals_the_official_writer(toy, folder, episode_metadata):
    recorder_env = CrystalSkeletonVectorEnv(4, collection=toy, split="train")
    recorder = EpisodeRecorder(recorder_env.table)
    recorded = RecordEpisodes(recorder_env, recorder)
    recorded.reset(seed=1)
    for step in range(30):
        recorded.step(np.full(4, step % 5))
    dataset = minari.load_dataset(
        write_replay(recorder, toy, "train", "every action in turn", progress=False)
    )
    env = CrystalSkeletonEnv(collection=toy)
    official = write_officially(
        "crystal-gym/toy/official-v0", dataset, env, episode_metadata(dataset)
    )
    assert_same_episodes(dataset, official)


def test_minari_appends_episodes_to_a_dataset(toy, folder):
    dataset = minari.load_dataset(build_dataset(toy, "val", progress=False))
    before = len(dataset)
    env = CrystalSkeletonEnv(collection=toy)
    dataset.update_dataset_from_buffer([play(env, "toy-3", 1, expert_actions(env, "toy-3", 1))])
    extended = minari.load_dataset(dataset.id)
    assert len(extended) == before + 1
    assert len(extended[before]) == toy.n_sites[3]
