"""Recording of online episodes and the dataset ``replay``."""

import minari
import numpy as np
import pytest

from crystal_datasets import EpisodeRecorder, RecordEpisodes, load_transitions, write_replay
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CollectionMismatchError, CrystalGymError, DamagedFileError

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_replay_has_the_steps_of_the_learner_in_order(toy, folder, mode, limit):
    env = CrystalSkeletonVectorEnv(
        3,
        collection=toy,
        split="train",
        reward="validity",
        autoreset_mode=mode,
        max_episode_steps=limit,
    )
    recorder = EpisodeRecorder(env.table)
    recorded = RecordEpisodes(env, recorder)
    rng = np.random.default_rng(0)
    observations, infos = recorded.reset(seed=0)
    running = [[] for _ in range(3)]
    ended = np.zeros(3, bool)
    expected = []
    n_truncated = 0
    for _ in range(80):
        actions = rng.integers(5, size=3)
        before, rows = observations, infos["crystal"]
        observations, rewards, terminations, truncations, infos = recorded.step(actions)
        for i in np.flatnonzero(~ended):
            state = (int(rows[i]), before["element"][i], int(before["focus"][i]))
            running[i].append((*state, int(actions[i]), float(rewards[i])))
            if terminations[i]:
                expected.append(running[i])
            elif truncations[i]:
                n_truncated += 1
            if terminations[i] or truncations[i]:
                running[i] = []
        ended = terminations | truncations if mode == "NextStep" else ended
    assert len(recorder) == len(expected) > 20
    assert recorded.n_truncated == n_truncated
    assert (n_truncated > 20) == (limit is not None)
    name = write_replay(recorder, toy, "train", "uniform", reward="validity", progress=False)
    assert name == "crystal-gym/toy/replay-train-validity-v0"
    data = load_transitions(name, progress=False)
    rows = [toy.index(str(data.skeleton_ids[s])) for s in data.skeleton]
    steps = list(zip(rows, data.elements, data.focus, data.action, data.reward, strict=True))
    expected_steps = [step for episode in expected for step in episode]
    assert len(steps) == len(expected_steps)
    for step, expected_step in zip(steps, expected_steps, strict=True):
        assert np.array_equal(step[1], expected_step[1])
        assert (step[0], *step[2:]) == (expected_step[0], *expected_step[2:])
    lengths = [len(episode) for episode in expected]
    assert np.flatnonzero(data.done).tolist() == (np.cumsum(lengths) - 1).tolist()
    assert "uniform" in (folder / name / "README.md").read_text("utf-8")


def test_replay_drops_and_counts_episodes_with_a_non_finite_reward(toy, folder):
    table = EpisodeTable(toy)
    recorder = EpisodeRecorder(table)
    rows = toy.in_split("train")[:3]
    rewards = np.zeros((3, table.max_sites))
    rewards[1, 0] = np.nan
    actions = np.zeros((3, table.max_sites), int)
    recorder.add(rows, table.breadth_first(rows, 0), actions, rewards)
    name = write_replay(recorder, toy, "train", "somebody", progress=False)
    dataset = minari.load_dataset(name)
    assert dataset.total_episodes == 2
    assert dataset.storage.metadata["crystal_gym"]["dropped_episodes"] == 1
    card = (folder / name / "README.md").read_text("utf-8")
    assert "| episodes dropped for a non-finite reward | 1 |" in card


def test_sb3_learner_is_recorded_through_its_adapter(toy):
    from crystal_agents.online.vec_env import SkeletonVecEnv

    env = CrystalSkeletonVectorEnv(3, collection=toy, autoreset_mode="SameStep")
    recorder = EpisodeRecorder(env.table)
    adapter = SkeletonVecEnv(RecordEpisodes(env, recorder))
    adapter.reset()
    returns = []
    for step in range(25):
        _, _, _, infos = adapter.step(np.full(3, step % 5))
        returns += [info["episode"]["r"] for info in infos if "episode" in info]
    _, _, _, rewards = recorder.arrays()
    assert len(recorder) == len(returns) > 10
    assert np.allclose(rewards.sum(1), returns)


def test_saved_episodes_are_loaded(toy, tmp_path):
    recorder = EpisodeRecorder(EpisodeTable(toy))
    path = tmp_path / "episodes.npz"
    recorder.save(path)
    loaded = EpisodeRecorder(recorder.table)
    loaded.load(path)
    assert len(loaded) == 0
    vector_env = CrystalSkeletonVectorEnv(8, collection=toy, autoreset_mode="SameStep")
    env = RecordEpisodes(vector_env, recorder)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(12):
        env.step(env.action_space.sample())
    recorder.save(path)
    loaded.load(path)
    assert len(loaded) == len(recorder) > 8
    for array, expected in zip(loaded.arrays(), recorder.arrays(), strict=True):
        np.testing.assert_array_equal(array, expected)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DamagedFileError, match="Delete the run's folder to start again"):
        loaded.load(path)


def test_episodes_of_other_crystals_are_not_loaded(toy, tmp_path):
    path = tmp_path / "episodes.npz"
    EpisodeRecorder(EpisodeTable(toy)).save(path)
    EpisodeRecorder(EpisodeTable(toy)).load(path)
    other = EpisodeRecorder(EpisodeTable(toy.take(range(6))))
    with pytest.raises(CollectionMismatchError, match="Restore the original crystals"):
        other.load(path)


def test_recorder_rejects_invalid_episodes(toy):
    table = EpisodeTable(toy)
    recorder = EpisodeRecorder(table)
    n = table.max_sites
    zeros, order = np.zeros((1, n)), table.breadth_first(np.array([5]), 0)
    recorder.add(np.empty(0, np.int64), *[np.empty((0, n))] * 3)
    assert len(recorder) == 0
    with pytest.raises(CrystalGymError, match="of shape"):
        recorder.add(np.array([5]), order, zeros[:, :2], zeros)
    with pytest.raises(CrystalGymError, match=r"Expected rows from 0 to 11, got \[12\]"):
        recorder.add(np.array([12]), order, zeros, zeros)
    with pytest.raises(CrystalGymError, match="Expected actions from 0 to 4, got"):
        recorder.add(np.array([5]), order, zeros + 5, zeros)
    with pytest.raises(CrystalGymError, match="Expected an order with each site"):
        recorder.add(np.array([5]), np.zeros((1, n), int), zeros, zeros)


def test_replay_rejects_other_crystals_splits_and_empty_recorders(toy, folder):
    table = EpisodeTable(toy)
    recorder = EpisodeRecorder(table)
    with pytest.raises(CrystalGymError, match="Expected recorded episodes, got none"):
        write_replay(recorder, toy, "train", "nobody", progress=False)
    zeros = np.zeros((1, table.max_sites))
    recorder.add(np.array([5]), table.breadth_first(np.array([5]), 0), zeros, zeros)
    split = str(toy.splits[5])
    other = next(name for name in ("train", "val", "test") if name != split)
    with pytest.raises(CrystalGymError, match="got 1 crystals of other splits"):
        write_replay(recorder, toy, other, "somebody", progress=False)
    with pytest.raises(CrystalGymError, match=r"got goldschmidt \(SHA-256 \w+\) split by"):
        write_replay(recorder, "goldschmidt", "train", "somebody", progress=False)
