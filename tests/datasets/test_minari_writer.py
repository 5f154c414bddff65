"""Data sets on the bulk path: the same as the official writer's, and read by everybody."""

import csv
import json
import os
import subprocess
import sys

import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_dataset import MinariDataset

from crystal_datasets import build_dataset, dataset_id, minari_writer
from crystal_gym.collections import load_collection
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.errors import CrystalGymError, StorageError, UnknownNameError

VAL = "crystal-gym/goldschmidt/expert-val-v0"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty place for Minari's data sets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


@pytest.fixture(scope="module")
def goldschmidt(tmp_path_factory):
    """The expert set of the embedded collection's val split, built once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        assert build_dataset("goldschmidt", "val", progress=False) == VAL
        yield minari.load_dataset(VAL)


def episode_metadata(dataset):
    return list(dataset.storage.get_episode_metadata(dataset.episode_indices))


def assert_same_episodes(dataset, other):
    assert len(dataset) == len(other)
    for mine, theirs in zip(dataset.iterate_episodes(), other.iterate_episodes(), strict=True):
        assert mine.id == theirs.id
        assert mine.infos == theirs.infos == {}
        assert list(mine.observations) == list(theirs.observations)
        pairs = [(mine.observations[key], theirs.observations[key]) for key in mine.observations]
        pairs += [
            (getattr(mine, key), getattr(theirs, key))
            for key in ("actions", "rewards", "terminations", "truncations")
        ]
        for my_array, their_array in pairs:
            assert my_array.dtype == their_array.dtype
            assert np.array_equal(my_array, their_array)


def played(env, crystal, start_site):
    """One expert episode of the environment, as the official writer takes it."""
    observation, _ = env.reset(options={"crystal": crystal, "start_site": start_site})
    seen, actions, rewards, terminations, truncations = [observation], [], [], [], []
    while not (terminations and terminations[-1]):
        actions.append(env.expert_action())
        observation, reward, terminated, truncated, _ = env.step(actions[-1])
        seen.append(observation)
        rewards.append(reward)
        terminations.append(terminated)
        truncations.append(truncated)
    return EpisodeBuffer(
        observations={key: [s[key] for s in seen] for key in seen[0]},
        actions=actions,
        rewards=rewards,
        terminations=terminations,
        truncations=truncations,
        infos={},
    )


@pytest.mark.parametrize("compact_limit", [60_000, 100])
@pytest.mark.filterwarnings("ignore:.*env_spec is None")
@pytest.mark.filterwarnings("ignore:.*eval_env. is set to None")
def test_the_bulk_path_equals_the_environment_and_the_official_writer(
    toy, folder, monkeypatch, compact_limit
):
    monkeypatch.setattr(minari_writer, "_COMPACT_LIMIT", compact_limit)
    bulk = minari.load_dataset(build_dataset(toy, "train", progress=False))
    told = episode_metadata(bulk)
    env = CrystalSkeletonEnv(collection=toy)
    metadata = bulk.storage.metadata
    official = minari.create_dataset_from_buffers(
        "crystal-gym/toy/official-v0",
        [played(env, m["crystal"], m["start_site"]) for m in told],
        observation_space=env.observation_space,
        action_space=env.action_space,
        **{
            key: metadata[key]
            for key in "algorithm_name author author_email code_permalink description "
            "requirements ref_min_score ref_max_score num_episodes_average_score".split()
        },
    )
    official.storage.update_episode_metadata(
        {key: m[key] for key in ("crystal", "row", "split", "start_site")} for m in told
    )
    assert_same_episodes(bulk, official)
    assert told == episode_metadata(official)
    ours = {"crystal_gym", "dataset_id", "dataset_size"}
    # The official writer keeps scores only with an environment.
    ours |= {"ref_min_score", "ref_max_score", "num_episodes_average_score"}
    theirs = official.storage.metadata
    assert {k: v for k, v in metadata.items() if k not in ours} == {
        k: v for k, v in theirs.items() if k not in ours
    }
    assert set(metadata) - ours <= set(theirs)
    assert bulk.observation_space == env.observation_space
    assert bulk.action_space == env.action_space


def test_the_episode_metadata_tell_crystal_row_split_and_source(toy, folder):
    dataset = minari.load_dataset(build_dataset(toy, "test", progress=False))
    told = episode_metadata(dataset)
    rows = toy.in_split("test")
    assert [m["row"] for m in told] == np.repeat(rows, np.minimum(toy.n_sites[rows], 5)).tolist()
    assert [m["id"] for m in told] == list(range(len(dataset)))
    for m, episode in zip(told, dataset.iterate_episodes(), strict=True):
        assert m["crystal"] == toy.ids[m["row"]]
        assert m["split"] == "test"
        assert m["start_site"] == episode.observations["focus"][0]
        assert m["total_steps"] == len(episode) == toy.n_sites[m["row"]]


def test_minari_reads_samples_filters_and_splits(goldschmidt):
    assert len(goldschmidt) == 5 * 209
    assert goldschmidt.total_steps == 25 * 209
    for episode in goldschmidt.iterate_episodes([0, 500, 1044]):
        assert episode.rewards.sum() == pytest.approx(1)
        for step in range(6):
            seen = {key: value[step] for key, value in episode.observations.items()}
            assert goldschmidt.observation_space.contains(seen)
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


def test_episode_metadata_choose_fewer_trajectories(goldschmidt):
    wanted = {m["id"] for m in episode_metadata(goldschmidt) if m["start_site"] in {1, 3, 4}}
    fewer = MinariDataset(goldschmidt.storage, np.array(sorted(wanted)))
    assert fewer.total_episodes == 3 * 209
    again = fewer.filter_episodes(lambda e: e.id in wanted and e.id < 10)
    assert again.episode_indices.tolist() == [1, 3, 4, 6, 8, 9]


def test_minari_lists_the_data_set_and_its_namespaces(goldschmidt):
    listed = minari.list_local_datasets()
    assert list(listed) == [VAL]
    assert listed[VAL]["total_episodes"] == 1045
    assert minari.namespace.list_local_namespaces() == ["crystal-gym", "crystal-gym/goldschmidt"]
    assert (
        "computed"
        in minari.namespace.get_namespace_metadata("crystal-gym/goldschmidt")["description"]
    )


REPLAY = """
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
        seen, _ = env.reset(options={"crystal": m["crystal"], "start_site": m["start_site"]})
        for step in range(len(episode) + 1):
            for key, value in seen.items():
                assert np.array_equal(value, episode.observations[key][step]), (step, key)
            if step < len(episode):
                seen, reward, terminated, truncated, _ = env.step(episode.actions[step])
                assert reward == episode.rewards[step]
                assert terminated == episode.terminations[step]
                assert truncated == episode.truncations[step]
    assert env.reset(seed=1)[1]["crystal"] in {m["row"] for m in metadata}
print("same")
"""


@pytest.mark.parametrize("behavior", ["expert", "random"])
def test_a_fresh_process_recovers_the_environment_and_replays(goldschmidt, behavior):
    name = VAL
    if behavior == "random":
        name = build_dataset("goldschmidt", "val", "random", overwrite=True, progress=False)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", REPLAY, name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "same\n", done.stderr
    if behavior == "random":
        minari.delete_dataset(name)


@pytest.mark.filterwarnings("ignore")  # torchrl's own, at import
def test_torchrl_reads_it(toy, folder, tmp_path, monkeypatch):
    from tensordict import TensorDict
    from torchrl.data.datasets.minari_data import MinariExperienceReplay

    # torchrl 0.14 fills its arrays, then takes `memmap_like`, which drops the content: it returns
    # zeros for every Minari data set, those of the official writer too. `memmap` keeps it.
    monkeypatch.setattr(TensorDict, "memmap_like", TensorDict.memmap)
    dataset = minari.load_dataset(build_dataset(toy, "test", progress=False))
    replay = MinariExperienceReplay(
        dataset.id, batch_size=32, root=tmp_path, download=False, load_from_local_minari=True
    )
    assert len(replay) == dataset.total_steps
    assert replay.sample()["observation", "edges"].shape == (32, toy.max_edges, 5)
    everything, episodes = replay[:], list(dataset.iterate_episodes())

    def flat(choose):
        return np.concatenate([choose(episode) for episode in episodes])

    assert np.array_equal(everything["action"], flat(lambda e: e.actions))
    for key in dataset.observation_space:
        now, then = everything["observation", key], everything["next", "observation", key]
        assert np.array_equal(now, flat(lambda e, key=key: e.observations[key][:-1]))
        assert np.array_equal(then, flat(lambda e, key=key: e.observations[key][1:]))
    assert np.array_equal(everything["next", "reward"].ravel(), flat(lambda e: e.rewards))
    assert np.array_equal(everything["next", "done"].ravel(), flat(lambda e: e.terminations))


@pytest.mark.filterwarnings("ignore:.*env_spec is None")
def test_minari_appends_episodes(toy, folder):
    dataset = minari.load_dataset(build_dataset(toy, "val", progress=False))
    before = len(dataset)
    env = CrystalSkeletonEnv(collection=toy)
    dataset.update_dataset_from_buffer([played(env, "toy-3", 1)])
    again = minari.load_dataset(dataset.id)
    assert len(again) == before + 1
    assert len(again[before]) == toy.n_sites[3]


def test_the_metadata_say_who_how_and_how_well(goldschmidt):
    metadata = goldschmidt.storage.metadata
    for key in "author author_email code_permalink algorithm_name description requirements".split():
        assert metadata[key]
    own = metadata["crystal_gym"]
    assert own["collection"] == "goldschmidt"
    assert len(own["vocabulary"]) == goldschmidt.action_space.n
    assert metadata["ref_min_score"] == 1 / goldschmidt.action_space.n
    assert metadata["ref_max_score"] == 1
    kwargs = goldschmidt.env_spec.kwargs
    assert kwargs == {
        "collection": "goldschmidt",
        "split": "val",
        "split_by": "origin",
        "vocabulary": own["vocabulary"],
    }
    assert "computed" in metadata["description"]


def test_the_card_says_what_it_is(goldschmidt):
    card = (goldschmidt.storage.data_path.parent / "README.md").read_text("utf-8")
    for words in (VAL, "1,045", "5,225", "Computed, not measured", "licence", "ref_min_score"):
        assert words in card
    code = card.split("```python\n")[1].split("```")[0]
    names: dict = {}
    exec(code, names)  # noqa: S102 - the card's own instructions
    assert names["info"]["start_site"] == names["metadata"]["start_site"]


def test_a_collection_from_a_file_is_found_again_from_anywhere(toy, folder, cache, monkeypatch):
    path = folder.parent / "my crystals.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["material_id", "cif", "split"])
        rows.writerows([i, toy.structure(str(i)).to(fmt="cif"), "val"] for i in toy.ids[:5])
    monkeypatch.chdir(path.parent)
    dataset = minari.load_dataset(build_dataset("my crystals.csv", "val", progress=False))
    assert dataset.id == "crystal-gym/my-crystals/expert-val-v0"
    monkeypatch.chdir("/")
    env = dataset.recover_environment()
    assert env.observation_space == dataset.observation_space
    assert env.reset(options={"crystal": "toy-4", "start_site": 3})[0]["focus"] == 3


def test_splits_by_composition_have_a_data_set_of_their_own_that_replays(folder):
    name = build_dataset(
        "goldschmidt", "test", split_by="composition", trajectories=1, progress=False
    )
    assert name == "crystal-gym/goldschmidt-by-composition/expert-test-v0"
    dataset = minari.load_dataset(name)
    anew = load_collection("goldschmidt", split_by="composition")
    env = dataset.recover_environment().unwrapped
    assert env.table.collection.splits.tolist() == anew.splits.tolist()
    assert {m["row"] for m in episode_metadata(dataset)} == set(anew.in_split("test").tolist())
    assert env.reset(seed=0)[1]["crystal"] in anew.in_split("test")
    assert dataset.storage.metadata["crystal_gym"]["split_by"] == "composition"
    card = (folder / name / "README.md").read_text("utf-8")
    assert "all crystals of one composition share a split" in card
    assert "Computed, not measured" in card


def test_a_collection_at_hand_has_no_environment_to_recover(toy, folder):
    dataset = minari.load_dataset(build_dataset(toy, "train", progress=False))
    assert dataset.env_spec is None
    with pytest.raises(ValueError, match="cannot be recovered"):
        dataset.recover_environment()
    card = (folder / dataset.id / "README.md").read_text("utf-8")
    assert "No environment can be recovered" in card


def test_an_existing_data_set_is_only_replaced_on_demand(toy, folder):
    name = build_dataset(toy, "train", progress=False)
    with pytest.raises(CrystalGymError, match=r"exists at .*overwrite=True"):
        build_dataset(toy, "train", progress=False)
    assert build_dataset(toy, "train", trajectories=1, overwrite=True, progress=False) == name
    assert len(minari.load_dataset(name)) == len(toy.in_split("train"))
    assert sorted(path.name for path in folder.iterdir()) == ["crystal-gym"]


def stop(*_):
    raise KeyboardInterrupt


def test_a_stopped_build_leaves_nothing_and_says_how_to_go_on(toy, folder, monkeypatch, capsys):
    monkeypatch.setattr(minari_writer, "dataset_card", stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        build_dataset(toy, "train", progress=False)
    assert "Build it again in the same way" in stopped.value.__notes__[0]
    assert capsys.readouterr().err == ""
    assert list(folder.iterdir()) == []
    assert minari.list_local_datasets() == {}


def test_a_stopped_replacement_keeps_the_old_data_set(toy, folder, monkeypatch):
    name = build_dataset(toy, "train", progress=False)
    old = (folder / name / "data" / "main_data.hdf5").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(minari_writer, "dataset_card", stop)
        with pytest.raises(KeyboardInterrupt):
            build_dataset(toy, "train", trajectories=1, overwrite=True, progress=False)
    with monkeypatch.context() as patch:
        rename = minari_writer.Path.rename

        def fails_for_the_new(path, target):
            if path.name == "new":
                raise OSError(28, "No space left on device")
            return rename(path, target)

        patch.setattr(minari_writer.Path, "rename", fails_for_the_new)
        with pytest.raises(StorageError, match="No space left"):
            build_dataset(toy, "train", trajectories=1, overwrite=True, progress=False)
    assert (folder / name / "data" / "main_data.hdf5").read_bytes() == old
    assert [path.name for path in folder.iterdir()] == ["crystal-gym"]


def test_what_a_killed_build_left_is_invisible_and_swept_up_later(toy, folder):
    name = dataset_id("toy", "train").replace("/", "-")
    old, fresh = (folder / f".building-{name}-{tail}" for tail in ("old", "fresh"))
    for left in (old, fresh):
        (left / "new" / "data").mkdir(parents=True)
    for path in (old / "new" / "data", old / "new", old):
        os.utime(path, (0, 0))
    assert minari.list_local_datasets() == {}
    build_dataset(toy, "train", progress=False)
    assert not old.exists()
    assert fresh.exists()


def test_a_place_that_cannot_be_written_is_named(toy, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file" / "minari"))
    with pytest.raises(StorageError, match="MINARI_DATASETS_PATH"):
        build_dataset(toy, "train", progress=False)


def test_a_failure_without_a_message_is_named_by_its_kind(toy, folder, monkeypatch):
    def fail(*_):
        raise PermissionError

    monkeypatch.setattr(minari_writer, "dataset_card", fail)
    with pytest.raises(StorageError, match="PermissionError"):
        build_dataset(toy, "train", progress=False)
    assert list(folder.iterdir()) == []


def test_a_full_disk_ends_in_a_clear_error(folder):
    script = (
        "import resource\n"
        "from crystal_datasets import build_dataset\n"
        "from crystal_gym.errors import StorageError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))\n"
        "try:\n"
        "    build_dataset('goldschmidt', 'val', progress=False)\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "Free some space" in done.stdout
    assert list(folder.iterdir()) == []


def test_bad_input_is_refused_before_anything_is_written(toy, folder):
    with pytest.raises(UnknownNameError, match="Unknown split"):
        build_dataset(toy, "training", progress=False)
    with pytest.raises(UnknownNameError, match="Unknown behavior"):
        build_dataset(toy, "train", "beginner", progress=False)
    with pytest.raises(UnknownNameError, match="Unknown collection"):
        build_dataset("perov5", "train", progress=False)
    with pytest.raises(CrystalGymError, match="not in the vocabulary"):
        build_dataset(toy, "train", vocabulary=Vocabulary(("Na", "O")), progress=False)
    with pytest.raises(CrystalGymError, match="A seed is 0 or more, not -1"):
        build_dataset(toy, "train", seed=-1, progress=False)
    with pytest.raises(CrystalGymError, match="no crystals in its split 'val'"):
        build_dataset(toy.take(toy.in_split("train")), "val", progress=False)
    assert not folder.exists()


def test_names_of_files_become_ids():
    assert dataset_id("my crystals.csv", "all", "random") == (
        "crystal-gym/my-crystals-csv/random-all-v0"
    )
    minari.dataset.minari_dataset.parse_dataset_id(dataset_id("Å/b", "train"))


@pytest.mark.real
def test_perov_5_has_five_episodes_a_crystal(perov5, folder):
    dataset = minari.load_dataset(build_dataset(perov5, "train", progress=False))
    assert dataset.id == "crystal-gym/perov-5/expert-train-v0"
    assert (len(dataset), dataset.total_steps) == (1000, 5000)
    told = episode_metadata(dataset)
    for m in told[::97]:
        episode = next(dataset.iterate_episodes([m["id"]]))
        row = perov5.index(m["crystal"])
        final = perov5.vocabulary.decode(episode.observations["element"][-1])
        assert final.tolist() == perov5.atomic_numbers[row].tolist()
    raw = json.loads((dataset.storage.data_path / "metadata.json").read_text())
    assert raw["crystal_gym"]["vocabulary"] == list(perov5.vocabulary.symbols)
