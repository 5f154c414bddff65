"""``build_dataset`` and its command: behaviors, rewards, dropped episodes, invalid input."""

import json

import minari
import numpy as np
import pytest

from crystal_agents.cli import main as cli
from crystal_datasets import build_dataset, dataset_id, load_transitions, mixed
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards import Reward, ValidityReward

pytestmark = pytest.mark.usefixtures("cache")


def test_expert_return_is_1_and_mean_random_return_is_1_over_v(folder):
    name = build_dataset("goldschmidt", "val", trajectories=1, progress=False)
    expert = load_transitions(name)
    assert np.allclose(expert.returns, 1, atol=1e-6)
    name = build_dataset("goldschmidt", "val", "random", trajectories=2, progress=False)
    random = load_transitions(name)
    chance = 1 / len(random.vocabulary)
    spread = np.sqrt(chance / len(random))
    assert abs(random.returns.mean() - chance) < 5 * spread
    for data in (expert, random):
        metadata = minari.load_dataset(data.dataset_id).storage.metadata
        statistics = metadata["crystal_gym"]["returns"]
        assert statistics["mean"] == pytest.approx(data.returns.mean(), abs=1e-6)
        assert statistics["episodes"] == len(data.returns)


def test_each_episode_of_a_mixture_follows_one_component(
    toy, folder, constant_policy, episode_metadata
):
    behavior = mixed(constant_policy(4, 5), "always O", mixture_weights=(1, 2, 1))
    dataset = minari.load_dataset(
        build_dataset(toy, "train", behavior, reward="match", progress=False)
    )
    entries = episode_metadata(dataset)
    behaviors = [entry["behavior"] for entry in entries]
    n = len(entries)
    assert abs(behaviors.count("policy") - n / 2) < 1
    assert abs(behaviors.count("expert") - n / 4) < 1
    assert len(set(behaviors[: n // 2])) > 1, "the components are shuffled"
    for entry, episode in zip(entries, dataset.iterate_episodes(), strict=True):
        if entry["behavior"] == "expert":
            assert episode.rewards.sum() == pytest.approx(1)
        if entry["behavior"] == "policy":
            assert (episode.actions == 3).all()
    settings = dataset.storage.metadata["crystal_gym"]
    assert settings["mixture"][1] == {
        "name": "policy",
        "weight": 2.0,
        "policy": "always O",
        "temperature": 1.0,
    }
    assert settings["returns_by"]["expert"]["mean"] == pytest.approx(1)
    card = (folder / dataset.id / "README.md").read_text("utf-8")
    for words in ("25 % expert, 50 % policy, 25 % random", "always O", "proportions are exact"):
        assert words in card


def test_rewards_are_part_of_the_id(toy, folder):
    assert dataset_id("a", "train", "random") == "crystal-gym/a/random-train-v0"
    names = {
        build_dataset(toy, "train", "random", reward=reward, progress=False)
        for reward in ("match", "validity", ("all zero!", Reward()), ("sum", {"match": 0.5}))
    }
    assert {name.rpartition("/")[2] for name in names} == {
        "random-train-v0",
        "random-train-validity-v0",
        "random-train-all-zero-ab9504d0-v0",
        "random-train-sum-v0",
    }
    with pytest.raises(CrystalGymError, match=r"'match', which is .*Choose another name"):
        build_dataset(toy, "train", reward=("match", Reward()), progress=False)
    with pytest.raises(UnknownNameError, match="Did you mean 'validity'"):
        build_dataset(toy, "train", reward="valididy", progress=False)


class SometimesFinite(Reward):
    """NaN for crystals in odd rows, infinite for row 0."""

    def on_finish(self, table, state):
        values = np.where(state.crystal % 2 == 1, np.nan, 1.0)
        return np.where(state.crystal == 0, np.inf, values), {}


def test_episodes_with_a_non_finite_reward_are_dropped_and_counted(toy, folder, episode_metadata):
    reward = ("odd", SometimesFinite())
    name = build_dataset(toy, "all", "random", reward=reward, progress=False)
    dataset = minari.load_dataset(name)
    kept = np.minimum(toy.n_sites, 5)[2::2].sum()
    assert {entry["row"] for entry in episode_metadata(dataset)} == {2, 4, 6, 8, 10}
    assert dataset.total_episodes == kept == len(list(dataset.iterate_episodes()))
    dropped = int(np.minimum(toy.n_sites, 5).sum() - kept)
    assert dropped > 0
    assert dataset.storage.metadata["crystal_gym"]["dropped_episodes"] == dropped
    card = (folder / name / "README.md").read_text("utf-8")
    assert f"| episodes | {kept} |" in card
    assert f"| episodes dropped for a non-finite reward | {dropped} |" in card
    assert np.allclose(load_transitions(name).returns, 1)


def test_dataset_without_a_finite_reward_is_rejected(toy, folder):
    with pytest.raises(CrystalGymError, match=r"NaN or infinite rewards 'nan' in all \d+ episodes"):
        build_dataset(toy.take([1, 3, 5]), "all", reward=("nan", lambda _: np.nan), progress=False)
    assert not list(folder.glob(".building*"))


def test_failed_reward_is_not_replaced(toy, folder, episode_metadata):
    def fail_on_oxides(structure):
        return np.nan if "O" in structure.composition else 0.25

    name = build_dataset(toy, "train", reward=("dry", fail_on_oxides), progress=False)
    rows = {entry["row"] for entry in episode_metadata(minari.load_dataset(name))}
    for row in toy.in_split("train").tolist():
        assert (row in rows) == (8 not in toy.atomic_numbers[row])
    assert rows
    assert np.allclose(load_transitions(name).returns, 0.25)


def test_invalid_input_is_rejected_before_anything_is_written(toy, folder):
    with pytest.raises(UnknownNameError, match="Unknown split"):
        build_dataset(toy, "training", progress=False)
    with pytest.raises(UnknownNameError, match="Unknown behavior policy"):
        build_dataset(toy, "train", "beginner", progress=False)
    with pytest.raises(UnknownNameError, match="Unknown collection"):
        build_dataset("perov5", "train", progress=False)
    with pytest.raises(CrystalGymError, match="vocabulary"):
        build_dataset(toy, "train", vocabulary=Vocabulary(("Na", "O")), progress=False)
    with pytest.raises(CrystalGymError, match="Expected a seed of 0 or more, got -1"):
        build_dataset(toy, "train", seed=-1, progress=False)
    with pytest.raises(CrystalGymError, match=r"Expected crystals in the split 'val' .*got no"):
        build_dataset(toy.take(toy.in_split("train")), "val", progress=False)
    assert not folder.exists()


def test_invalid_behaviors_are_rejected(toy, folder, constant_policy):
    with pytest.raises(CrystalGymError, match=r"Expected a policy for .*'mixed'.*--policy"):
        build_dataset(toy, "train", "mixed", progress=False)
    with pytest.raises(CrystalGymError, match="Record the episodes"):
        build_dataset(toy, "train", "replay", progress=False)
    with pytest.raises(UnknownNameError, match="Did you mean 'random'"):
        build_dataset(toy, "train", "randm", progress=False)

    def nan_policy(observations):
        return np.full((len(observations["focus"]), 5), np.nan)

    for policy, problem in ((constant_policy(1, 4), "got shape"), (nan_policy, "got NaN")):
        with pytest.raises(CrystalGymError, match=f"Expected probabilities of shape .*{problem}"):
            build_dataset(toy, "train", mixed(policy, "x"), progress=False)
    assert not list(folder.rglob("main_data.hdf5"))


def defined_by_another_smact(reward):
    reward.rule, reward.definition = "smact14", "validity: rule smact14 (SMACT 9)"


def test_command_builds_mixtures_and_keeps_existing_datasets(folder, capsys, monkeypatch):
    build = ["build-dataset", "goldschmidt", "--splits", "val", "--trajectories", "1"]
    mixture = [*build, "--behavior", "mixed", "--policy", "goldschmidt/egnn", "--mixture-weights"]
    assert cli.main([*mixture, "1", "0", "3", "--reward", "validity"]) == 0
    name = "crystal-gym/goldschmidt/mixed-val-validity-v0"
    assert f"{name}: 209 episodes" in capsys.readouterr().out
    metadata = json.loads((folder / name / "data" / "metadata.json").read_text())
    assert set(metadata["crystal_gym"]["returns_by"]) == {"expert", "random"}
    assert cli.main([*mixture, "1", "0", "3", "--reward", "validity"]) == 0
    assert "already built" in capsys.readouterr().out
    assert cli.main([*mixture, "1", "1", "1", "--reward", "validity"]) == 2
    assert "to be built with mixture" in capsys.readouterr().err
    monkeypatch.setattr(ValidityReward, "__init__", defined_by_another_smact)
    assert cli.main([*mixture, "1", "0", "3", "--reward", "validity"]) == 2
    error = capsys.readouterr().err
    assert "to be built with reward_definition" in error
    assert "SMACT 9" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--behavior", "mixed"), "--policy"),
        (("--policy", "goldschmidt/egnn"), "Expected --policy with --behavior mixed"),
        (
            ("--behavior", "random", "--mixture-weights", "1", "2", "1"),
            "Expected --mixture-weights with --behavior mixed",
        ),
        (
            ("--behavior", "random", "--temperature", "2"),
            "Expected --temperature with --behavior mixed",
        ),
        (("--reward", "happiness"), "Unknown reward"),
        (("--behavior", "mixed", "--policy", "perov-5/egnn"), "vocabulary"),
    ],
)
def test_command_rejects_invalid_options(folder, capsys, options, message):
    assert cli.main(["build-dataset", "goldschmidt", "--splits", "val", *options]) == 2
    assert message in capsys.readouterr().err
