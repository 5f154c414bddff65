"""Datasets with flat observations, and transitions as flat arrays."""

import minari
import numpy as np
import pytest
from gymnasium import spaces

from crystal_agents.cli import main as cli
from crystal_datasets import build_dataset, dataset_id, flat_arrays, load_transitions
from crystal_datasets.flat import OBSERVATIONS
from crystal_gym.envs.flat_layout import FlatLayout
from crystal_gym.envs.flat_observation import CrystalSkeletonFlatEnv
from crystal_gym.errors import CrystalGymError, UnknownNameError

pytestmark = [pytest.mark.usefixtures("cache"), pytest.mark.usefixtures("folder")]

FLAT = [kind for kind in OBSERVATIONS if kind != "dict"]


def build(collection, split, observations, **settings):
    name = build_dataset(collection, split, observations=observations, progress=False, **settings)
    return minari.load_dataset(name)


@pytest.mark.parametrize("kind", FLAT)
@pytest.mark.parametrize("behavior", ["expert", "random"])
def test_flat_dataset_has_the_episodes_of_the_dict_dataset(
    toy_folder, kind, behavior, episode_metadata
):
    plain = build(toy_folder, "all", "dict", behavior=behavior)
    flat = build(toy_folder, "all", kind, behavior=behavior)
    layout = FlatLayout.from_space(plain.observation_space, pairs=OBSERVATIONS[kind])
    assert flat.observation_space == layout.space()
    assert flat.action_space == plain.action_space
    assert len(flat) == len(plain) > 12
    assert flat.total_steps == plain.total_steps
    assert episode_metadata(flat) == episode_metadata(plain)
    episodes = zip(flat.iterate_episodes(), plain.iterate_episodes(), strict=True)
    for episode, expected in episodes:
        assert episode.observations.dtype == np.float32
        # The function that converts observations of the environment also converts episodes.
        assert np.array_equal(episode.observations, layout.flatten(expected.observations))
        restored = layout.unflatten(episode.observations, expected.observations["edges"])
        for key, values in expected.observations.items():
            assert np.array_equal(restored[key], values)
        for name in ("actions", "rewards", "terminations", "truncations"):
            values, others = getattr(episode, name), getattr(expected, name)
            assert values.dtype == others.dtype
            assert np.array_equal(values, others)


@pytest.mark.parametrize("kind", FLAT)
def test_recovered_environment_replays_the_episodes(toy_folder, kind, episode_metadata):
    dataset = build(toy_folder, "train", kind, reward="validity")
    env = dataset.recover_environment()
    assert isinstance(env.unwrapped, CrystalSkeletonFlatEnv)
    assert env.observation_space == env.unwrapped.observation_space == dataset.observation_space
    entries = episode_metadata(dataset)
    for entry, episode in zip(entries, dataset.iterate_episodes(), strict=True):
        options = {"crystal": entry["crystal"], "start_site": entry["start_site"]}
        observations, rewards, truncations = [env.reset(options=options)[0]], [], []
        for action in episode.actions:
            observation, reward, terminated, truncated, _ = env.step(action)
            observations.append(observation)
            rewards.append(reward)
            truncations.append(truncated)
        assert terminated
        assert np.array_equal(observations, episode.observations)
        assert np.array_equal(rewards, episode.rewards)
        # d3rlpy requires a limit of steps, which must not truncate an episode.
        assert not any(truncations)
    assert env.spec.max_episode_steps == 7


def test_large_and_small_episodes_are_exact(toy_folder, monkeypatch):
    from crystal_datasets import hdf5_file

    small = build(toy_folder, "all", "flat")
    values = [episode.observations for episode in small.iterate_episodes()]
    assert min(v.nbytes for v in values) < hdf5_file.FLAT_COMPACT_LIMIT
    monkeypatch.setattr(hdf5_file, "FLAT_COMPACT_LIMIT", 0)
    compressed = build(toy_folder, "all", "flat", overwrite=True)
    for episode, expected in zip(compressed.iterate_episodes(), values, strict=True):
        assert np.array_equal(episode.observations, expected)


def test_card_and_metadata_describe_the_blocks(toy, folder):
    dataset = build(toy, "val", "flat-pairs")
    layout = FlatLayout(6, 5, pairs=True)
    assert dataset.storage.metadata["crystal_gym"]["flat_blocks"] == {
        name: [place.start, place.stop] for name, place in layout.blocks.items()
    }
    card = (folder / dataset.id / "README.md").read_text("utf-8")
    assert "CrystalSkeletonFlat-v0" in card
    assert "`focus` from 36 to 41" in card
    assert "load_transitions" not in card


def test_ids_of_flat_datasets_differ():
    assert dataset_id("a", "train", observations="flat") == "crystal-gym/a/flat-expert-train-v0"
    assert dataset_id("a", "val", "random", "flat", "flat-pairs") == (
        "crystal-gym/a/flat-pairs-random-val-flat-v0"
    )
    assert len({dataset_id("a", "val", observations=kind) for kind in OBSERVATIONS}) == 3


def test_unknown_kinds_of_observations_are_rejected(toy):
    with pytest.raises(UnknownNameError, match=r"observations 'flatt'\. Did you mean 'flat'"):
        build_dataset(toy, "val", observations="flatt")


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("trajectories", [None, 1])
def test_flat_arrays_are_the_steps_of_the_flat_episodes(toy_folder, pairs, trajectories):
    kind = "flat-pairs" if pairs else "flat"
    dataset = build(toy_folder, "all", kind, behavior="random")
    transitions = load_transitions(
        build(toy_folder, "all", "dict", behavior="random").id, trajectories, progress=False
    )
    arrays = flat_arrays(transitions, pairs)
    indices = np.unique(transitions.trajectory)
    episodes = list(dataset.iterate_episodes(indices))
    expected = {
        "observations": np.concatenate([episode.observations[:-1] for episode in episodes]),
        "actions": np.concatenate([episode.actions for episode in episodes]),
        "rewards": np.concatenate([episode.rewards for episode in episodes]).astype(np.float32),
        "terminals": np.concatenate([episode.terminations for episode in episodes]),
    }
    assert arrays.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(arrays[name], values), name
    assert arrays["observations"].dtype == np.float32
    assert arrays["actions"].dtype == np.int64


def test_transitions_of_flat_datasets_are_rejected(toy_folder):
    names = [build(toy_folder, split, "flat").id for split in ("train", "val")]
    with pytest.raises(CrystalGymError, match=r"flat-expert-train-v0' with flat ones\. Build"):
        load_transitions(names[0])


def test_command_builds_flat_datasets_beside_the_others(toy_folder, capsys):
    command = ["build-dataset", str(toy_folder), "--splits", "val"]
    assert cli.main(command) == 0
    for _ in range(2):
        assert cli.main([*command, "--observations", "flat-pairs"]) == 0
    assert "already built" in capsys.readouterr().out
    ids = set(minari.list_local_datasets())
    assert ids == {f"crystal-gym/toy/{prefix}expert-val-v0" for prefix in ("", "flat-pairs-")}


def test_behavioral_cloning_with_minari_and_pytorch_reads_flat_datasets(toy_folder):
    torch = pytest.importorskip("torch")
    dataset = build(toy_folder, "all", "flat-pairs")
    env = dataset.recover_environment()
    assert isinstance(env.observation_space, spaces.Box)
    assert isinstance(env.action_space, spaces.Discrete)

    def collate(batch):
        return [
            torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=-1)
            for values in (
                [torch.as_tensor(episode.observations) for episode in batch],
                [torch.as_tensor(episode.actions) for episode in batch],
            )
        ]

    torch.manual_seed(0)
    loader = torch.utils.data.DataLoader(dataset, 16, shuffle=True, collate_fn=collate)
    network = torch.nn.Sequential(
        torch.nn.Linear(env.observation_space.shape[0], 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, int(env.action_space.n)),
    )
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(40):
        for observations, actions in loader:
            predicted = network(observations[:, :-1])
            loss = torch.nn.functional.cross_entropy(
                predicted.flatten(0, 1), actions.flatten(), ignore_index=-1
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    returns = []
    for row in range(12):
        observation, _ = env.reset(options={"crystal": row, "start_site": 0})
        total, terminated = 0.0, False
        while not terminated:
            action = network(torch.as_tensor(observation)).argmax()
            observation, reward, terminated, *_ = env.step(action.numpy())
            total += reward
        returns.append(total)
    # The twelve crystals are learned; random actions reach 1/5.
    assert np.mean(returns) > 0.9
