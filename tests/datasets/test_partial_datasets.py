"""Datasets of partial starts, masks and targets: the same task as that of their environment."""

from dataclasses import replace

import h5py
import minari
import numpy as np
import pytest

from crystal_agents.cli import main as cli
from crystal_agents.training.transition_batches import TransitionStore
from crystal_datasets import EpisodeRecorder, RecordEpisodes, build_dataset, load_transitions
from crystal_datasets.flat import OBSERVATIONS
from crystal_datasets.task import DatasetTask
from crystal_gym.envs.flat_layout import FlatLayout
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.masks import no_mask

pytestmark = pytest.mark.usefixtures("cache", "folder")


@pytest.mark.parametrize("keep", [0.0, 0.4, [1, 3]])
@pytest.mark.parametrize("behavior", ["expert", "random"])
def test_episodes_equal_those_of_the_recovered_environment(episode_metadata, keep, behavior):
    options = {"start": "partial", "keep": keep, "mask": "composition", "progress": False}
    dataset = minari.load_dataset(build_dataset("goldschmidt", "val", behavior, **options))
    env = dataset.recover_environment()
    assert env.spec.kwargs["start"] == "partial"
    assert env.spec.kwargs["keep"] == keep
    assert env.spec.kwargs["mask"] == "composition"
    episodes = list(zip(episode_metadata(dataset), dataset.iterate_episodes(), strict=True))
    for entry, episode in episodes[::97]:
        options = {name: entry[name] for name in ("crystal", "start_site", "keep")}
        observation, info = env.reset(options=options)
        for step, action in enumerate(episode.actions):
            assert info["action_mask"][action]
            for key, value in observation.items():
                np.testing.assert_array_equal(episode.observations[key][step], value)
            observation, reward, terminated, _, info = env.step(action)
            assert reward == pytest.approx(episode.rewards[step])
            assert terminated == episode.terminations[step]
        np.testing.assert_array_equal(episode.observations["element"][-1], observation["element"])
        count = min(int(keep * 5 + 0.5), 4) if isinstance(keep, float) else len(keep)
        assert len(episode) == 5 - count == 5 - len(entry["keep"])


def test_keeping_no_sites_equals_an_empty_start_bit_for_bit(toy):
    empty = load_transitions(build_dataset(toy, "train", progress=False))
    name = build_dataset(toy, "train", start="partial", keep=0.0, progress=False)
    assert name == "crystal-gym/toy/expert-partial-0_0-train-v0"
    partial = load_transitions(name)
    for key, values in vars(empty).items():
        if isinstance(values, np.ndarray):
            np.testing.assert_array_equal(getattr(partial, key), values)
            assert getattr(partial, key).dtype == values.dtype


def test_start_sites_and_kept_sites_do_not_depend_on_the_split(toy, episode_metadata):
    def entries(split):
        name = build_dataset(toy, split, start="partial", progress=False)
        return {
            (entry["crystal"], entry["start_site"]): entry["keep"].tolist()
            for entry in episode_metadata(minari.load_dataset(name))
        }

    everything = entries("all")
    for key, keep in entries("test").items():
        assert everything[key] == keep


@pytest.mark.parametrize("keep", [0.5, [0]])
def test_transitions_count_the_kept_sites_and_contain_the_whole_crystal(toy, keep):
    toy = toy.take(np.flatnonzero(toy.n_sites > 1))
    name = build_dataset(toy, "train", start="partial", keep=keep, progress=False)
    data = load_transitions(name)
    np.testing.assert_array_equal(data.step, (data.elements > 0).sum(1))
    store = TransitionStore(data)
    assert store.has_unique_actions
    true = {
        str(toy.ids[row]): EpisodeTable(toy).true_elements[row] for row in toy.in_split("train")
    }
    for crystal, finished in zip(data.skeleton_ids, store.finished.numpy(), strict=True):
        expected = true[str(crystal)]
        np.testing.assert_array_equal(finished, expected)
    assert np.allclose(data.returns, 1)


def test_kept_elements_that_differ_from_actions_are_not_unique():
    name = build_dataset(
        "goldschmidt", "val", start="partial", keep=0.5, trajectories=2, progress=False
    )
    data = load_transitions(name)
    assert TransitionStore(data).has_unique_actions
    # The agent fills each site with a wrong element, the same in all trajectories; the kept sites
    # have the true elements.
    first, trajectory = np.unique(data.trajectory, return_index=True, return_inverse=True)[1:]
    kept = data.elements[first][trajectory] > 0
    n_elements = len(data.vocabulary)
    filled = (data.elements > 0) & ~kept
    wrong = replace(
        data,
        action=((data.action + 1) % n_elements).astype(data.action.dtype),
        elements=np.where(filled, data.elements % n_elements + 1, data.elements),
    )
    assert not TransitionStore(wrong).has_unique_actions


def test_random_actions_follow_the_mask(toy):
    name = build_dataset(toy, "train", "random", mask="composition", progress=False)
    assert name == "crystal-gym/toy/random-composition-train-v0"
    table = EpisodeTable(toy)
    dataset = minari.load_dataset(name)
    rows = [entry["row"] for entry in dataset.storage.get_episode_metadata(dataset.episode_indices)]
    final = [episode.observations["element"][-1] for episode in dataset.iterate_episodes()]
    for row, elements in zip(rows, final, strict=True):
        assert sorted(elements) == sorted(table.true_elements[row])
    assert "ref_min_score" not in dataset.storage.metadata
    assert dataset.storage.metadata["crystal_gym"]["mask"] == "composition"


def test_targets_are_the_own_labels_and_crystals_without_them_are_left_out(toy, folder):
    row = int(toy.in_split("train")[0])
    gap = np.arange(len(toy), dtype=np.float64)
    gap[row] = np.nan
    labeled = replace(toy, labels={"gap": gap})
    name = build_dataset(labeled, "train", target="gap", progress=False)
    assert name == "crystal-gym/toy/expert-target-gap-train-v0"
    dataset = minari.load_dataset(name)
    entries = list(dataset.storage.get_episode_metadata(dataset.episode_indices))
    assert row not in {entry["row"] for entry in entries}
    for entry, episode in zip(entries, dataset.iterate_episodes(), strict=True):
        assert (episode.observations["target"] == gap[entry["row"]]).all()
    card = (folder / name / "README.md").read_text("utf-8")
    assert "own labels gap; 1 crystals without these labels are left out" in card
    with pytest.raises(CrystalGymError, match="without targets"):
        load_transitions(name)


@pytest.mark.parametrize("kind", [kind for kind in OBSERVATIONS if kind != "dict"])
def test_flat_datasets_have_the_same_task_as_dict_datasets(toy, kind, episode_metadata):
    toy = toy.take(np.flatnonzero(toy.n_sites > 1))
    labeled = replace(toy, labels={"gap": np.arange(len(toy), dtype=np.float64)})
    task = {"start": "partial", "keep": 0.5, "mask": "composition", "target": "gap"}
    plain, flat = (
        minari.load_dataset(
            build_dataset(
                labeled, "train", "random", observations=observations, progress=False, **task
            )
        )
        for observations in ("dict", kind)
    )
    layout = FlatLayout.from_space(plain.observation_space, pairs=OBSERVATIONS[kind])
    assert flat.observation_space == layout.space()
    assert len(flat) == len(plain) > 0
    entries = zip(episode_metadata(flat), episode_metadata(plain), strict=True)
    for entry, expected in entries:
        assert entry["crystal"] == expected["crystal"]
        np.testing.assert_array_equal(entry["keep"], expected["keep"])
    episodes = zip(flat.iterate_episodes(), plain.iterate_episodes(), strict=True)
    for episode, expected in episodes:
        np.testing.assert_array_equal(episode.observations, layout.flatten(expected.observations))
        np.testing.assert_array_equal(episode.actions, expected.actions)
        np.testing.assert_array_equal(episode.rewards, expected.rewards)


@pytest.mark.parametrize("keep", [0.4, [1, 3]])
def test_recovered_flat_environments_repeat_the_episodes(episode_metadata, keep):
    task = {"start": "partial", "keep": keep, "mask": "composition"}
    name = build_dataset(
        "goldschmidt", "val", "random", observations="flat", progress=False, **task
    )
    dataset = minari.load_dataset(name)
    env = dataset.recover_environment()
    episodes = list(zip(episode_metadata(dataset), dataset.iterate_episodes(), strict=True))
    for entry, episode in episodes[::97]:
        options = {name: entry[name] for name in ("crystal", "start_site", "keep")}
        observations = [env.reset(options=options)[0]]
        for action, reward, terminated in zip(
            episode.actions, episode.rewards, episode.terminations, strict=True
        ):
            observation, env_reward, env_terminated, _, _ = env.step(action)
            observations.append(observation)
            assert env_reward == pytest.approx(reward)
            assert env_terminated == terminated
        np.testing.assert_array_equal(episode.observations, np.stack(observations))


def test_cards_describe_the_task(toy, folder):
    name = build_dataset(toy, "test", "random", start="partial", mask="composition", progress=False)
    card = (folder / name / "README.md").read_text("utf-8")
    for words in (
        "a fraction 0.5 of the sites, drawn at random, has its true elements",
        "The action mask of the environment is `composition`.",
        "drawn uniformly from those that the mask allows",
        "`keep` (the kept sites)",
    ):
        assert words in card
    with h5py.File(folder / name / "data" / "main_data.hdf5") as file:
        assert file["episode_0"].attrs["keep"].dtype == np.int64


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"start": "half"}, UnknownNameError, "start"),
        ({"keep": 0.5}, CrystalGymError, "no keep with start='empty'"),
        ({"start": "partial", "keep": [9]}, CrystalGymError, "crystals with the site 9"),
        ({"mask": "neutral"}, UnknownNameError, "mask"),
        ({"mask": no_mask}, CrystalGymError, "name of a mask"),
        ({"target": "gap"}, UnknownNameError, "gap"),
    ],
)
def test_invalid_tasks_are_rejected(toy, settings, error, message):
    with pytest.raises(error, match=message):
        build_dataset(toy, "train", progress=False, **settings)


def test_names_of_tasks_are_distinct():
    tasks = [
        DatasetTask.of(),
        DatasetTask.of("partial"),
        DatasetTask.of("partial", [0, 5]),
        DatasetTask.of("partial", 0.25, "composition", ["heat_all", "dir_gap"]),
    ]
    assert [task.name for task in tasks] == [
        "",
        "-partial-0_5",
        "-partial-sites-0-5",
        "-partial-0_25-composition-target-heat_all-dir_gap",
    ]


def test_the_recorder_refuses_partial_starts(toy):
    env = CrystalSkeletonVectorEnv(4, collection=toy, split="all", start="partial", keep=0.5)
    recorder = RecordEpisodes(env, EpisodeRecorder(env.table))
    with pytest.raises(CrystalGymError, match="start from empty skeletons"):
        recorder.reset(seed=0)


def test_a_policy_is_trained_and_evaluated_on_a_partial_task(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = ["--start", "partial", "--keep", "0,2"]
    assert cli.main(["build-dataset", "goldschmidt", *task, "--trajectories", "1"]) == 0
    assert "expert-partial-sites-0-2-train-v0" in capsys.readouterr().out
    options = ["--recipe", "gcn", "--epochs", "1", "--accelerator", "cpu"]
    assert cli.main(["train", "goldschmidt", *task, *options]) == 0
    folder = "runs/goldschmidt-gcn-partial-sites-0-2-seed-0"
    assert folder in capsys.readouterr().out
    assert cli.main(["evaluate", folder, *task, "--no-baselines"]) == 0
    assert cli.main(["train", "goldschmidt", "--start", "partial", *options]) == 2
    assert "build-dataset goldschmidt --start partial --keep 0.5" in capsys.readouterr().err
    assert cli.main(["evaluate", folder, "--start", "partial", "--keep", "half"]) == 2


def test_the_command_line_names_and_records_the_task(capsys):
    task = ["--start", "partial", "--keep", "0.4", "--mask", "composition"]
    options = ["--splits", "val", "--behavior", "random", "--trajectories", "1"]
    assert cli.main(["build-dataset", "goldschmidt", *options, *task]) == 0
    name = "crystal-gym/goldschmidt/random-partial-0_4-composition-val-v0"
    assert f"{name}: " in capsys.readouterr().out
    settings = minari.load_dataset(name).storage.metadata["crystal_gym"]
    assert (settings["start"], settings["keep"]) == ("partial", 0.4)
    assert settings["mask"] == "composition"
    assert cli.main(["build-dataset", "goldschmidt", *options, *task]) == 0
    assert "already built" in capsys.readouterr().out
    assert cli.main(["build-dataset", "goldschmidt", *options, "--target", "gap"]) == 2
    assert "gap" in capsys.readouterr().err
