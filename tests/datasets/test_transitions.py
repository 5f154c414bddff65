"""Data sets read back as flat arrays."""

import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from crystal_datasets import build_dataset, load_transitions, transitions
from crystal_gym.errors import CrystalGymError, DamagedFileError, MissingDataError

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty place for Minari's data sets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


@pytest.fixture
def name(toy, folder):
    """An expert set of four crystals with 1 to 6 sites."""
    return build_dataset(toy, "test", progress=False)


def load(name, *args, **kwargs):
    return load_transitions(name, *args, progress=False, **kwargs)


@pytest.mark.parametrize("behavior", ["expert", "random"])
def test_transitions_are_the_steps_of_the_episodes(toy, folder, behavior):
    name = build_dataset(toy, "test", behavior, progress=False)
    found = load(name)
    dataset = minari.load_dataset(name)
    told = list(dataset.storage.get_episode_metadata(dataset.episode_indices))
    assert len(found) == dataset.total_steps
    assert found.vocabulary == toy.vocabulary.symbols
    t = 0
    for m, episode in zip(told, dataset.iterate_episodes(), strict=True):
        for step in range(len(episode)):
            seen = {key: value[step] for key, value in episode.observations.items()}
            s = found.skeleton[t]
            assert found.skeleton_ids[s] == m["crystal"]
            assert found.n_sites[s] == m["total_steps"]
            assert np.array_equal(found.frac_coords[s], seen["frac_coords"])
            assert np.array_equal(found.lattice[s], seen["lattice"])
            assert np.array_equal(found.edges[s], seen["edges"])
            assert np.array_equal(found.elements[t], seen["element"])
            assert found.focus[t] == seen["focus"]
            assert found.action[t] == episode.actions[step]
            assert found.reward[t] == np.float32(episode.rewards[step])
            assert found.done[t] == episode.terminations[step]
            assert found.trajectory[t] == m["id"]
            assert found.start_site[t] == m["start_site"]
            assert found.step[t] == step
            t += 1
    assert t == len(found)


def test_the_arrays_have_the_promised_types(name):
    found = load(name)
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
        assert getattr(found, key).dtype == dtype, key


def trajectories_by_crystal(found):
    return {
        str(found.skeleton_ids[s]): set(found.trajectory[found.skeleton == s].tolist())
        for s in range(len(found.n_sites))
    }


def test_fewer_trajectories_are_whole_nested_and_chosen_by_seed(toy, name):
    complete = trajectories_by_crystal(load(name))
    one, three, five = (load(name, k, seed=4) for k in (1, 3, 5))
    sizes = dict(zip(toy.ids.tolist(), toy.n_sites.tolist(), strict=True))
    for found, k in ((one, 1), (three, 3), (five, 5)):
        for crystal, kept in trajectories_by_crystal(found).items():
            assert len(kept) == min(k, sizes[crystal])
            assert kept <= complete[crystal]
        lengths = np.bincount(found.trajectory)
        assert np.array_equal(
            np.repeat(lengths, lengths), found.n_sites[found.skeleton].astype(int)
        )
    for crystal, kept in trajectories_by_crystal(one).items():
        assert kept <= trajectories_by_crystal(three)[crystal]
    assert np.array_equal(one.trajectory, load(name, 1, seed=4).trajectory)
    seeds = {tuple(np.unique(load(name, 1, seed=seed).trajectory)) for seed in range(8)}
    assert len(seeds) > 1
    with pytest.raises(CrystalGymError, match="At least one"):
        load(name, 0)


def test_the_file_is_read_once_until_the_data_set_changes(toy, name, monkeypatch):
    first = load(name)
    with monkeypatch.context() as patch:
        patch.setattr(transitions, "_read_episodes", None)
        again = load(name)
    assert np.array_equal(first.elements, again.elements)
    assert repr(first) == repr(again)
    build_dataset(toy, "test", trajectories=1, overwrite=True, progress=False)
    assert len(load(name)) < len(first)


def test_a_missing_data_set_says_how_to_get_it(folder):
    with pytest.raises(MissingDataError, match=r"build_dataset.*MINARI_DATASETS_PATH"):
        load("crystal-gym/toy/expert-train-v0")


def test_a_truncated_file_is_told_as_such(name, folder):
    path = folder / name / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DamagedFileError, match=r"main_data.hdf5 is damaged.*overwrite=True"):
        load(name)


def test_no_damage_goes_unnoticed(name, folder, monkeypatch):
    """HDF5 keeps checksums: a flipped bit is found, or it lies where nothing is stored."""
    whole = load(name)
    path = folder / name / "data" / "main_data.hdf5"
    content = path.read_bytes()
    told = 0
    for position in np.random.default_rng(0).integers(len(content), size=40):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        try:
            found = load(name)
        except DamagedFileError:
            told += 1
        else:
            for key in ("frac_coords", "edges", "elements", "focus", "action", "start_site"):
                assert np.array_equal(getattr(found, key), getattr(whole, key))
    assert told > 20


def test_damaged_metadata_and_a_lost_file_are_told(name, folder):
    data = folder / name / "data"
    metadata = (data / "metadata.json").read_text()
    (data / "metadata.json").write_text(metadata[:-100])
    with pytest.raises(DamagedFileError, match="damaged or incomplete"):
        load(name)
    (data / "metadata.json").write_text(metadata)
    (data / "main_data.hdf5").unlink()
    with pytest.raises(DamagedFileError, match="damaged or incomplete"):
        load(name)


def test_a_damaged_cache_names_the_file(name, cache):
    load(name)
    (path,) = (cache / "transitions").iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DamagedFileError, match="Delete it"):
        load(name)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_foreign_data_sets_and_episodes_are_refused(name, folder):
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
    with pytest.raises(CrystalGymError, match="was not written by"):
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
    with pytest.raises(CrystalGymError, match="does not tell its crystal"):
        load(name)


@pytest.mark.real
def test_perov_5_transitions_end_in_the_true_crystals(perov5, folder):
    found = load(build_dataset(perov5, "val", progress=False), 3)
    assert len(found) == 200 * 3 * 5
    assert found.done.sum() == 600
    last = found.elements[found.done].copy()
    last[np.arange(600), found.focus[found.done]] = found.action[found.done] + 1
    crystals = found.skeleton_ids[found.skeleton[found.done]]
    rows = [perov5.index(str(crystal)) for crystal in crystals]
    assert np.array_equal(last, perov5.codes()[rows])
