"""Datasets as Minari, torchrl and ``crystal_gym`` environments read them."""

import csv
import json
import subprocess
import sys

import minari
import numpy as np
import pytest
from minari.dataset.minari_dataset import MinariDataset

from crystal_datasets import build_dataset, dataset_id
from crystal_gym.collections import load_collection
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.rewards import ValidityReward

VAL = "crystal-gym/goldschmidt/expert-val-v0"


@pytest.fixture(scope="module")
def goldschmidt(tmp_path_factory):
    """The expert dataset of the embedded collection's val split, built once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        assert build_dataset("goldschmidt", "val", progress=False) == VAL
        yield minari.load_dataset(VAL)


def test_episode_metadata_have_crystal_row_split_and_start_site(toy, folder, episode_metadata):
    dataset = minari.load_dataset(build_dataset(toy, "test", progress=False))
    entries = episode_metadata(dataset)
    rows = toy.in_split("test")
    expected_rows = np.repeat(rows, np.minimum(toy.n_sites[rows], 5))
    assert [entry["row"] for entry in entries] == expected_rows.tolist()
    assert [entry["id"] for entry in entries] == list(range(len(dataset)))
    for entry, episode in zip(entries, dataset.iterate_episodes(), strict=True):
        assert entry["crystal"] == toy.ids[entry["row"]]
        assert entry["split"] == "test"
        assert entry["start_site"] == episode.observations["focus"][0]
        assert entry["total_steps"] == len(episode) == toy.n_sites[entry["row"]]


def test_minari_reads_samples_filters_and_splits(goldschmidt):
    assert len(goldschmidt) == 5 * 209
    assert goldschmidt.total_steps == 25 * 209
    for episode in goldschmidt.iterate_episodes([0, 500, 1044]):
        assert episode.rewards.sum() == pytest.approx(1)
        for step in range(6):
            observation = {key: value[step] for key, value in episode.observations.items()}
            assert goldschmidt.observation_space.contains(observation)
    goldschmidt.set_seed(0)
    sampled = goldschmidt.sample_episodes(7)
    assert len({episode.id for episode in sampled}) == 7
    from_first = goldschmidt.filter_episodes(lambda e: bool(e.observations["focus"][0] == 0))
    assert len(from_first) == 209
    parts = minari.split_dataset(goldschmidt, [1000, 45], seed=1)
    assert [part.total_steps for part in parts] == [5000, 225]
    assert not set(parts[0].episode_indices) & set(parts[1].episode_indices)
    scores = minari.get_normalized_score(goldschmidt, np.array([1.0]))
    assert scores == pytest.approx([1.0])


def test_episode_metadata_select_fewer_trajectories(goldschmidt, episode_metadata):
    ids = {
        entry["id"] for entry in episode_metadata(goldschmidt) if entry["start_site"] in {1, 3, 4}
    }
    fewer = MinariDataset(goldschmidt.storage, np.array(sorted(ids)))
    assert fewer.total_episodes == 3 * 209
    filtered = fewer.filter_episodes(lambda e: e.id in ids and e.id < 10)
    assert filtered.episode_indices.tolist() == [1, 3, 4, 6, 8, 9]


def test_minari_lists_the_dataset_and_its_namespaces(goldschmidt):
    listed = minari.list_local_datasets()
    assert list(listed) == [VAL]
    assert listed[VAL]["total_episodes"] == 1045
    assert minari.namespace.list_local_namespaces() == ["crystal-gym", "crystal-gym/goldschmidt"]
    assert (
        "computed"
        in minari.namespace.get_namespace_metadata("crystal-gym/goldschmidt")["description"]
    )


REPLAY_SCRIPT = """
import sys
import minari, numpy as np
dataset = minari.load_dataset(sys.argv[1])
assert "crystal_gym" not in sys.modules
for env in (dataset.recover_environment(), dataset.recover_environment(eval_env=True)):
    assert env.spec.id == "CrystalSkeleton-v0"
    assert env.observation_space == dataset.observation_space
    assert env.action_space == dataset.action_space
    metadata = list(dataset.storage.get_episode_metadata(dataset.episode_indices))
    for m in (metadata[0], metadata[503]):
        episode = next(dataset.iterate_episodes([m["id"]]))
        obs, _ = env.reset(options={"crystal": m["crystal"], "start_site": m["start_site"]})
        for step in range(len(episode) + 1):
            for key, value in obs.items():
                assert np.array_equal(value, episode.observations[key][step]), (step, key)
            if step < len(episode):
                obs, reward, terminated, truncated, _ = env.step(episode.actions[step])
                assert reward == episode.rewards[step]
                assert terminated == episode.terminations[step]
                assert truncated == episode.truncations[step]
    assert env.reset(seed=1)[1]["crystal"] in {m["row"] for m in metadata}
print("same")
"""


@pytest.mark.parametrize("behavior", ["expert", "random"])
def test_new_process_recovers_the_environment_and_replays(goldschmidt, behavior):
    name = VAL
    if behavior == "random":
        name = build_dataset("goldschmidt", "val", "random", overwrite=True, progress=False)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", REPLAY_SCRIPT, name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "same\n", done.stderr
    if behavior == "random":
        minari.delete_dataset(name)


def test_recovered_environment_has_the_reward(folder, episode_metadata):
    for reward in ("validity", ("halves", {"match": 0.5, "validity": 0.5})):
        name = build_dataset(
            "goldschmidt", "val", "random", reward=reward, trajectories=1, progress=False
        )
        dataset = minari.load_dataset(name)
        env = dataset.recover_environment()
        for i, entry in enumerate(episode_metadata(dataset)[:3]):
            env.reset(options={"crystal": entry["crystal"], "start_site": entry["start_site"]})
            episode = next(dataset.iterate_episodes([i]))
            rewards = [float(env.step(action)[1]) for action in episode.actions]
            assert rewards == episode.rewards.tolist()
    card = (folder / name / "README.md").read_text("utf-8")
    definition = dataset.storage.metadata["crystal_gym"]["reward_definition"]
    assert definition == ValidityReward().definition
    assert f"The reward is `halves` ({definition})" in card


def test_collection_object_has_no_environment_to_recover(toy, folder):
    dataset = minari.load_dataset(build_dataset(toy, "train", progress=False))
    assert dataset.env_spec is None
    with pytest.raises(ValueError, match="cannot be recovered"):
        dataset.recover_environment()
    card = (folder / dataset.id / "README.md").read_text("utf-8")
    assert "The environment cannot be recovered" in card


@pytest.mark.filterwarnings("ignore")  # warnings of torchrl at import
def test_torchrl_reads_the_dataset(toy, folder, tmp_path, monkeypatch):
    from tensordict import TensorDict
    from torchrl.data.datasets.minari_data import MinariExperienceReplay

    # torchrl 0.14 fills its arrays and then calls `memmap_like`, which drops the content: it
    # returns zeros for every Minari dataset, including those of the official writer. `memmap` keeps
    # the content.
    monkeypatch.setattr(TensorDict, "memmap_like", TensorDict.memmap)
    dataset = minari.load_dataset(build_dataset(toy, "test", progress=False))
    replay = MinariExperienceReplay(
        dataset.id, batch_size=32, root=tmp_path, download=False, load_from_local_minari=True
    )
    assert len(replay) == dataset.total_steps
    assert replay.sample()["observation", "edges"].shape == (32, toy.max_edges, 5)
    everything, episodes = replay[:], list(dataset.iterate_episodes())

    def concatenate(get):
        return np.concatenate([get(episode) for episode in episodes])

    assert np.array_equal(everything["action"], concatenate(lambda e: e.actions))
    for key in dataset.observation_space:
        before, after = everything["observation", key], everything["next", "observation", key]
        assert np.array_equal(before, concatenate(lambda e, key=key: e.observations[key][:-1]))
        assert np.array_equal(after, concatenate(lambda e, key=key: e.observations[key][1:]))
    assert np.array_equal(everything["next", "reward"].ravel(), concatenate(lambda e: e.rewards))
    assert np.array_equal(everything["next", "done"].ravel(), concatenate(lambda e: e.terminations))


def test_metadata_give_author_method_and_reference_scores(goldschmidt):
    metadata = goldschmidt.storage.metadata
    for key in "author author_email code_permalink algorithm_name description requirements".split():
        assert metadata[key]
    settings = metadata["crystal_gym"]
    assert settings["collection"] == "goldschmidt"
    assert len(settings["vocabulary"]) == goldschmidt.action_space.n
    assert metadata["ref_min_score"] == 1 / goldschmidt.action_space.n
    assert metadata["ref_max_score"] == 1
    assert goldschmidt.env_spec.kwargs == {
        "collection": "goldschmidt",
        "split": "val",
        "split_by": "origin",
        "vocabulary": settings["vocabulary"],
        "collection_sha256": settings["collection_sha256"],
    }
    assert "computed" in metadata["description"]


def test_card_describes_the_dataset_and_its_code_runs(goldschmidt):
    card = (goldschmidt.storage.data_path.parent / "README.md").read_text("utf-8")
    for words in (VAL, "1,045", "5,225", "Computed, not measured", "license", "ref_min_score"):
        assert words in card
    assert "| episodes dropped for a non-finite reward | 0 |" in card
    code = card.split("```python\n")[1].split("```")[0]
    names: dict = {}
    exec(code, names)  # noqa: S102 - the instructions of the card
    assert names["info"]["start_site"] == names["metadata"]["start_site"]


def test_collection_from_a_file_is_found_from_any_folder(toy, folder, cache, monkeypatch):
    path = folder.parent / "my crystals.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["material_id", "cif", "split"])
        rows.writerows([i, toy.structure(str(i)).to(fmt="cif"), "val"] for i in toy.ids[:5])
    monkeypatch.chdir(path.parent)
    dataset = minari.load_dataset(build_dataset("my crystals.csv", "val", progress=False))
    assert dataset.id == "crystal-gym/my-crystals-7310f83d/expert-val-v0"
    monkeypatch.chdir("/")
    env = dataset.recover_environment()
    assert env.observation_space == dataset.observation_space
    assert env.reset(options={"crystal": "toy-4", "start_site": 3})[0]["focus"] == 3


def test_splits_by_composition_have_their_own_dataset_that_replays(folder, episode_metadata):
    name = build_dataset(
        "goldschmidt", "test", split_by="composition", trajectories=1, progress=False
    )
    assert name == "crystal-gym/goldschmidt-by-composition/expert-test-v0"
    dataset = minari.load_dataset(name)
    collection = load_collection("goldschmidt", split_by="composition")
    env = dataset.recover_environment().unwrapped
    assert isinstance(env, CrystalSkeletonEnv)
    assert env.table.collection.splits.tolist() == collection.splits.tolist()
    rows = set(collection.in_split("test").tolist())
    assert {entry["row"] for entry in episode_metadata(dataset)} == rows
    assert env.reset(seed=0)[1]["crystal"] in rows
    assert dataset.storage.metadata["crystal_gym"]["split_by"] == "composition"
    card = (folder / name / "README.md").read_text("utf-8")
    assert collection.description in card
    assert "Computed, not measured" in card


def test_file_names_become_valid_ids():
    assert dataset_id("my crystals.csv", "all", "random") == (
        "crystal-gym/my-crystals-csv-bb195ed8/random-all-v0"
    )
    minari.dataset.minari_dataset.parse_dataset_id(dataset_id("Å/b", "train"))


@pytest.mark.real
def test_perov_5_has_five_episodes_per_crystal(perov5, folder, episode_metadata):
    dataset = minari.load_dataset(build_dataset(perov5, "train", progress=False))
    assert dataset.id == "crystal-gym/perov-5/expert-train-v0"
    assert (len(dataset), dataset.total_steps) == (1000, 5000)
    for entry in episode_metadata(dataset)[::97]:
        episode = next(dataset.iterate_episodes([entry["id"]]))
        row = perov5.index(entry["crystal"])
        final = perov5.vocabulary.decode(episode.observations["element"][-1])
        assert final.tolist() == perov5.atomic_numbers[row].tolist()
    metadata = json.loads((dataset.storage.data_path / "metadata.json").read_text())
    assert metadata["crystal_gym"]["vocabulary"] == list(perov5.vocabulary.symbols)
