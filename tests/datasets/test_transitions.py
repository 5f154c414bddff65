"""Datasets loaded as flat arrays."""

import json

import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from crystal_datasets import build_dataset, load_transitions, mixed, transitions
from crystal_gym.errors import CrystalGymError, DamagedFileError, MissingDataError

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def name(toy, folder):
    """The id of an expert dataset of four crystals with 1 to 6 sites."""
    return build_dataset(toy, "test", progress=False)


def load(name, *args, **kwargs):
    return load_transitions(name, *args, progress=False, **kwargs)


@pytest.mark.parametrize("behavior", ["expert", "random"])
def test_transitions_equal_the_steps_of_the_episodes(toy, folder, episode_metadata, behavior):
    name = build_dataset(toy, "test", behavior, progress=False)
    data = load(name)
    dataset = minari.load_dataset(name)
    assert len(data) == dataset.total_steps
    assert data.vocabulary == toy.vocabulary.symbols
    t = 0
    for entry, episode in zip(episode_metadata(dataset), dataset.iterate_episodes(), strict=True):
        for step in range(len(episode)):
            observation = {key: value[step] for key, value in episode.observations.items()}
            s = data.skeleton[t]
            assert data.skeleton_ids[s] == entry["crystal"]
            assert data.n_sites[s] == entry["total_steps"]
            assert np.array_equal(data.frac_coords[s], observation["frac_coords"])
            assert np.array_equal(data.lattice[s], observation["lattice"])
            assert np.array_equal(data.edges[s], observation["edges"])
            assert np.array_equal(data.elements[t], observation["element"])
            assert data.focus[t] == observation["focus"]
            assert data.action[t] == episode.actions[step]
            assert data.reward[t] == np.float32(episode.rewards[step])
            assert data.done[t] == episode.terminations[step]
            assert data.trajectory[t] == entry["id"]
            assert data.start_site[t] == entry["start_site"]
            assert data.step[t] == step
            t += 1
    assert t == len(data)


def test_arrays_have_the_documented_types(name):
    data = load(name)
    types = {
        "n_sites": np.int32,
        "frac_coords": np.float32,
        "lattice": np.float32,
        "edges": np.int16,
        "skeleton": np.int32,
        "trajectory": np.int32,
        "start_site": np.int16,
        "step": np.int16,
        "elements": np.int16,
        "focus": np.int16,
        "action": np.int16,
        "reward": np.float32,
        "done": np.bool_,
    }
    for key, dtype in types.items():
        assert getattr(data, key).dtype == dtype, key


def test_first_and_returns_belong_to_each_trajectory(toy, folder):
    data = load(build_dataset(toy, "train", "random", progress=False))
    for first, value in zip(data.first, data.returns, strict=True):
        trajectory = data.trajectory == data.trajectory[first]
        assert data.step[first] == 0
        assert value == pytest.approx(data.reward[trajectory].sum())


def trajectories_by_crystal(data):
    return {
        str(data.skeleton_ids[s]): set(data.trajectory[data.skeleton == s].tolist())
        for s in range(len(data.n_sites))
    }


def test_drawn_trajectories_are_whole_nested_and_follow_the_seed(toy, name):
    complete = trajectories_by_crystal(load(name))
    drawn = {k: load(name, k, seed=4) for k in (1, 3, 5)}
    sizes = dict(zip(toy.ids.tolist(), toy.n_sites.tolist(), strict=True))
    for k, data in drawn.items():
        for crystal, kept in trajectories_by_crystal(data).items():
            assert len(kept) == min(k, sizes[crystal])
            assert kept <= complete[crystal]
        lengths = np.bincount(data.trajectory)
        assert np.array_equal(np.repeat(lengths, lengths), data.n_sites[data.skeleton].astype(int))
    for crystal, kept in trajectories_by_crystal(drawn[1]).items():
        assert kept <= trajectories_by_crystal(drawn[3])[crystal]
    assert np.array_equal(drawn[1].trajectory, load(name, 1, seed=4).trajectory)
    draws = {tuple(np.unique(load(name, 1, seed=seed).trajectory)) for seed in range(8)}
    assert len(draws) > 1
    with pytest.raises(CrystalGymError, match="at least one"):
        load(name, 0)


def test_file_is_read_once_until_the_dataset_changes(toy, name, monkeypatch):
    first = load(name)
    with monkeypatch.context() as patch:
        patch.setattr(transitions, "_read_episodes", None)
        cached = load(name)
    assert np.array_equal(first.elements, cached.elements)
    assert repr(first) == repr(cached)
    build_dataset(toy, "test", trajectories=1, overwrite=True, progress=False)
    assert len(load(name)) < len(first)


def test_error_of_a_missing_dataset_explains_how_to_get_it(folder):
    with pytest.raises(MissingDataError, match=r"build_dataset.*MINARI_DATASETS_PATH"):
        load("crystal-gym/toy/expert-train-v0")


@pytest.mark.parametrize("kind", ["expert", "mixed"])
def test_truncated_file_is_reported(toy, folder, constant_policy, kind):
    behavior = mixed(constant_policy(1, 5), "x") if kind == "mixed" else kind
    name = build_dataset(toy, "test", behavior, progress=False)
    path = folder / name / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DamagedFileError, match=r"main_data.hdf5 is damaged.*overwrite=True"):
        load(name)


def test_every_damaged_byte_is_detected_or_harmless(name, folder):
    """HDF5 stores checksums, so a flipped bit is detected unless it is in unused space."""
    intact = load(name)
    path = folder / name / "data" / "main_data.hdf5"
    content = path.read_bytes()
    n_detected = 0
    for position in np.random.default_rng(0).integers(len(content), size=40):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        try:
            data = load(name)
        except DamagedFileError:
            n_detected += 1
        else:
            for key in ("frac_coords", "edges", "elements", "focus", "action", "start_site"):
                assert np.array_equal(getattr(data, key), getattr(intact, key))
    assert n_detected > 20


def test_damaged_metadata_and_a_missing_file_are_reported(name, folder):
    data = folder / name / "data"
    metadata = (data / "metadata.json").read_text()
    (data / "metadata.json").write_text(metadata[:-100])
    with pytest.raises(DamagedFileError, match="damaged or incomplete"):
        load(name)
    (data / "metadata.json").write_text(metadata)
    (data / "main_data.hdf5").unlink()
    with pytest.raises(DamagedFileError, match="damaged or incomplete"):
        load(name)


def test_error_of_a_damaged_cache_names_the_file(name, cache):
    load(name)
    (path,) = (cache / "transitions").iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DamagedFileError, match="Delete it"):
        load(name)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_datasets_and_episodes_of_other_software_are_rejected(name, folder):
    episode = EpisodeBuffer(
        observations=np.zeros((3, 2), np.float32),
        actions=np.zeros(2, np.int64),
        rewards=[0.0, 1.0],
        terminations=[False, True],
        truncations=[False, False],
        infos={},
    )
    minari.create_dataset_from_buffers(
        "other/cart-v0",
        [episode],
        observation_space=spaces.Box(0, 1, (2,), np.float32),
        action_space=spaces.Discrete(2),
    )
    with pytest.raises(CrystalGymError, match="Expected a dataset written by crystal_datasets"):
        load("other/cart-v0")
    dataset = minari.load_dataset(name)
    first = next(dataset.iterate_episodes())
    dataset.update_dataset_from_buffer(
        [
            EpisodeBuffer(
                observations=first.observations,
                actions=first.actions,
                rewards=first.rewards,
                terminations=first.terminations,
                truncations=first.truncations,
                infos={},
            )
        ]
    )
    with pytest.raises(CrystalGymError, match="got an episode without them"):
        load(name)


def test_datasets_of_an_earlier_version_are_rejected(name, folder):
    data = folder / name / "data"
    with h5py.File(data / "main_data.hdf5", "r+") as file:
        for episode in file.values():
            episode.attrs["source"] = episode.attrs["start_site"]
            del episode.attrs["start_site"]
    with pytest.raises(
        CrystalGymError, match=r"Expected .*'start_site' in episode 0 .*got 'source' .*overwrite"
    ):
        load(name)
    metadata = json.loads((data / "metadata.json").read_text())
    metadata["crystal_gym"]["split_by"] = "source"
    (data / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(
        CrystalGymError, match=r"Expected split_by to be one of .*got 'source' .*overwrite=True"
    ):
        load(name)


def test_cached_arrays_with_other_names_are_rejected(name, cache):
    load(name)
    (path,) = (cache / "transitions").iterdir()
    with np.load(path) as file:
        arrays = dict(file)
    arrays["source"] = arrays.pop("start_site")
    np.savez(path, **arrays)
    with pytest.raises(DamagedFileError, match=r"Expected the arrays .*got .*source.*Delete"):
        load(name)


@pytest.mark.real
def test_perov_5_transitions_end_in_the_true_crystals(perov5, folder):
    data = load(build_dataset(perov5, "val", progress=False), 3)
    assert len(data) == 200 * 3 * 5
    assert data.done.sum() == 600
    final = data.elements[data.done].copy()
    final[np.arange(600), data.focus[data.done]] = data.action[data.done] + 1
    crystals = data.skeleton_ids[data.skeleton[data.done]]
    rows = [perov5.index(str(crystal)) for crystal in crystals]
    assert np.array_equal(final, perov5.codes()[rows])
