"""Policies: saving, loading, errors, and episodes in the environment."""

import dataclasses
import json

import gymnasium as gym
import numpy as np
import pytest
import torch

import crystal_gym  # noqa: F401 - registers the environment
from crystal_agents.policies import policy as policy_module
from crystal_agents.policies.policy import (
    PolicyConfig,
    PolicyScorer,
    SkeletonPolicy,
    load_policy,
)
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.episode import EpisodeTable, observe, start
from crystal_gym.errors import CrystalGymError, DamagedFileError, MissingDataError, StorageError

SMALL = {"hidden": 16, "vectors": 4, "geometry_layers": 1, "filling_layers": 1}


def make(toy, network="egnn", settings=None, seed=0):
    torch.manual_seed(seed)
    config = PolicyConfig(
        network,
        toy.vocabulary.symbols,
        toy.max_sites,
        settings if settings is not None else (SMALL if network == "egnn" else {"hidden": 16}),
        {"data": "toy"},
    )
    return SkeletonPolicy(config).eval()


@pytest.mark.parametrize("network", ["egnn", "egnn-paper", "gcn"])
def test_a_loaded_policy_equals_the_saved_one(toy, tmp_path, network):
    policy = make(toy, network)
    loaded = load_policy(policy.save(tmp_path / "policy"))
    assert loaded.config == policy.config
    for key, value in policy.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    assert not loaded.training


@pytest.mark.parametrize("network", ["egnn", "egnn-paper"])
def test_a_policy_fills_crystals_in_the_environment(toy, network):
    policy = make(toy, network)
    env = gym.make("CrystalSkeleton-v0", collection=toy, split="all")
    observation, _ = env.reset(seed=0)
    terminated = False
    while not terminated:
        probabilities = policy.probabilities(observation)
        assert probabilities.shape == (len(toy.vocabulary),)
        assert probabilities.sum() == pytest.approx(1, abs=1e-5)
        action = policy.act(observation)
        assert action == probabilities.argmax()
        observation, _, terminated, _, _ = env.step(action)
    assert (observation["element"] != 0).all()


def test_probabilities_of_a_batch_equal_those_of_single_observations(toy):
    policy = make(toy)
    envs = gym.make_vec("CrystalSkeleton-v0", num_envs=6, collection=toy, split="all")
    observations, _ = envs.reset(seed=0)
    batched = policy.probabilities(observations)
    assert batched.shape == (6, len(toy.vocabulary))
    for row in range(6):
        single = policy.probabilities({key: value[row] for key, value in observations.items()})
        np.testing.assert_allclose(batched[row], single, rtol=1e-4, atol=1e-6)


def test_scorer_equals_the_probabilities_of_observations(toy):
    policy = make(toy)
    table = EpisodeTable(toy)
    crystals = np.flatnonzero(table.n_sites == 4)
    state = start(table, crystals, table.breadth_first(crystals, 0))
    logits = torch.as_tensor(PolicyScorer(policy, table)(state))
    np.testing.assert_allclose(
        logits.softmax(-1), policy.probabilities(observe(table, state)), rtol=1e-4, atol=1e-6
    )


def test_a_folder_without_a_policy_raises(tmp_path):
    with pytest.raises(MissingDataError, match=r"policy\.json is missing"):
        load_policy(tmp_path)


def test_damaged_files_raise(toy, tmp_path):
    make(toy).save(tmp_path)
    weights, config = tmp_path / "policy.safetensors", tmp_path / "policy.json"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    with pytest.raises(DamagedFileError, match="safetensors is damaged"):
        load_policy(tmp_path)
    weights.write_bytes(content)
    config.write_text(config.read_text()[:-20])
    with pytest.raises(DamagedFileError, match="json is damaged"):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"network": "gcn", "settings": {}},
        {"symbols": ["Na", "O"]},
        {"settings": SMALL | {"hidden": 32}},
    ],
)
def test_weights_of_another_network_or_vocabulary_raise(toy, tmp_path, change):
    make(toy).save(tmp_path)
    config = json.loads((tmp_path / "policy.json").read_text())
    (tmp_path / "policy.json").write_text(json.dumps(config | change))
    with pytest.raises(DamagedFileError, match="another network or vocabulary"):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"hidden": "many"}},
        {"network": "cnn"},
        {"symbols": 5},
        {"training": []},
        {"training": {"finetuning": 3}},
    ],
)
def test_a_configuration_that_builds_no_network_raises(toy, tmp_path, change):
    make(toy).save(tmp_path)
    config = json.loads((tmp_path / "policy.json").read_text())
    (tmp_path / "policy.json").write_text(json.dumps(config | change))
    with pytest.raises(DamagedFileError, match=r"policy\.json is damaged") as raised:
        load_policy(tmp_path)
    assert raised.value.__cause__ is not None


def test_a_file_of_another_version_raises(toy, tmp_path):
    make(toy).save(tmp_path)
    file = tmp_path / "policy.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"activation": "relu"}))
    with pytest.raises(
        DamagedFileError, match=r"fields max_sites, .* got activation, .*Train the policy again"
    ):
        load_policy(tmp_path)
    del config["max_sites"]
    file.write_text(json.dumps(config))
    with pytest.raises(DamagedFileError, match="Expected the fields max_sites"):
        load_policy(tmp_path)
    file.write_text("[]")
    with pytest.raises(DamagedFileError, match="got none"):
        load_policy(tmp_path)


@pytest.mark.parametrize("online", [False, True])
def test_an_unknown_split_by_raises(toy, tmp_path, online):
    make(toy).save(tmp_path)
    file = tmp_path / "policy.json"
    record = {"collection": "toy", "split_by": "source"}
    config = json.loads(file.read_text()) | {
        "training": {"finetuning": [record]} if online else record
    }
    file.write_text(json.dumps(config))
    with pytest.raises(
        DamagedFileError,
        match=r"split_by to be one of origin, composition, .* in .*got 'source'\. Train",
    ):
        load_policy(tmp_path)


def test_another_vocabulary_or_too_many_sites_raise(toy):
    policy = make(toy, "egnn-paper")
    with pytest.raises(CrystalGymError, match="vocabulary of 5 elements"):
        policy.require(Vocabulary(("H", "O")))
    with pytest.raises(CrystalGymError, match=r"up to 6 sites, .* got up to 9"):
        policy.require(max_sites=9)
    # egnn does not encode the index of the focus, so it has no limit.
    assert make(toy).require(toy.vocabulary, max_sites=9)


def test_networks_that_need_the_focus_have_no_logits_of_all_sites(toy):
    policy = make(toy, "gcn")
    with pytest.raises(CrystalGymError, match="Expected a focus"):
        policy.readout.every_site(torch.zeros(1, 3, policy.encoder.size))


def test_a_full_disk_leaves_no_incomplete_policy(toy, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(policy_module, "save_file", full)
    with pytest.raises(StorageError, match="No space left"):
        make(toy).save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_configurations_compare_by_value(toy):
    config = make(toy).config
    assert dataclasses.replace(config) == config
    assert config.vocabulary == toy.vocabulary
