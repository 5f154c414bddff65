"""Models that start from a cloned policy: equal actions before training, and rejected input."""

import json
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from online_models import (
    SETTINGS,
    SHORT,
    agreement,
    copy_weights,
    envs_for,
    equal_weights,
    policy_for,
    random_states,
    short_rollouts,
)
from stable_baselines3 import A2C, DQN, PPO

from crystal_agents import SkeletonVecEnv, extract_policy, from_scratch, load_policy, warm_start
from crystal_agents.online.algorithms import ALGORITHMS, SkeletonPPO
from crystal_agents.online.critic_warm_up import get_features_extractor
from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_agents.policies.targets import PolicyTargets
from crystal_gym import CrystalSkeletonVectorEnv
from crystal_gym.errors import CrystalGymError, UnknownNameError


def assert_initial_actions_are_those_of(policy, envs):
    batches = list(random_states(SkeletonVecEnv(envs), 1000))
    expected = np.concatenate([policy.act(batch) for batch in batches])
    assert len(expected) == 1000
    for algorithm in ALGORITHMS:
        model = warm_start(policy, algorithm, envs)
        actions = [model.predict(batch, deterministic=True)[0] for batch in batches]
        np.testing.assert_array_equal(np.concatenate(actions), expected)


def test_initial_actions_are_those_of_the_policy_on_goldschmidt():
    envs = CrystalSkeletonVectorEnv(250, collection="goldschmidt", autoreset_mode="SameStep")
    assert_initial_actions_are_those_of(load_policy("goldschmidt/egnn"), envs)


def conditional_policy(toy):
    targets = PolicyTargets(("heat",), (1.0,), (2.0,), (-3.0,), (5.0,))
    torch.manual_seed(0)
    config = PolicyConfig("egnn", toy.vocabulary.symbols, 6, SETTINGS, targets=targets.as_record())
    return SkeletonPolicy(config).eval()


def test_a_conditional_policy_starts_with_a_target(toy):
    policy, envs = conditional_policy(toy), envs_for(toy)
    (batch, *_) = random_states(SkeletonVecEnv(envs), 8)
    model = warm_start(policy, "ppo", envs, target={"heat": -2.5}, **SHORT)
    with torch.no_grad():
        states = model.policy.obs_to_tensor(batch)[0]
        started = model.policy.get_distribution(states).distribution.probs.numpy()
    asked = policy.probabilities({**batch, "target": np.full((len(started), 1), -2.5)})
    np.testing.assert_allclose(started, asked, rtol=1e-4, atol=1e-6)
    assert np.abs(started - policy.probabilities(batch)).max() > 1e-3
    learned = extract_policy(model)
    assert learned.targets is None
    assert learned.config.training["target"] == {"heat": -2.5}
    np.testing.assert_allclose(learned.probabilities(batch), asked, rtol=1e-4, atol=1e-6)
    free = extract_policy(warm_start(policy, "ppo", envs, target={}, **SHORT))
    expected = policy.probabilities(batch)
    np.testing.assert_allclose(free.probabilities(batch), expected, rtol=1e-4, atol=1e-6)


def test_targets_of_a_warm_start_are_checked(toy):
    policy, envs = conditional_policy(toy), envs_for(toy)
    with pytest.raises(CrystalGymError, match=r"Expected a target .*target={'heat': -3}.*{}"):
        warm_start(policy, "ppo", envs)
    with pytest.raises(CrystalGymError, match="Expected heat from -3 to 5"):
        warm_start(policy, "ppo", envs, target={"heat": 7.0})
    with pytest.raises(CrystalGymError, match="Expected a conditional policy"):
        warm_start(policy_for(toy), "ppo", envs, target={"heat": 1.0})
    assert get_features_extractor(from_scratch(policy, "ppo", envs).policy).network.targets is None


@pytest.mark.real
def test_initial_actions_are_those_of_the_policy_on_perov5(perov5):
    policy = load_policy("perov-5/egnn")
    envs = envs_for(perov5, 250, vocabulary=policy.config.symbols)
    assert_initial_actions_are_those_of(policy, envs)


@pytest.mark.parametrize("network", ["egnn", "egnn-paper", "gcn"])
def test_initial_probabilities_are_those_of_the_policy(toy, network):
    settings = SETTINGS if network == "egnn" else {"hidden": 16}
    policy = policy_for(toy, network, settings)
    model = warm_start(policy, "ppo", envs_for(toy))
    for batch in random_states(model.get_env(), 40):
        tensors, _ = model.policy.obs_to_tensor(batch)
        with torch.no_grad():
            acting = model.policy.get_distribution(tensors).distribution.probs
            # Dropout is off in training mode as well.
            model.policy.set_training_mode(True)
            learning = model.policy.get_distribution(tensors).distribution.probs
        np.testing.assert_allclose(acting, policy.probabilities(batch), rtol=1e-4, atol=1e-6)
        assert torch.equal(acting, learning)


def test_models_are_instances_of_stable_baselines3(toy):
    policy = policy_for(toy)
    for name, kind in (("ppo", PPO), ("a2c", A2C), ("dqn", DQN)):
        assert isinstance(warm_start(policy, name, envs_for(toy)), kind)


def test_single_environments_are_supported(toy):
    policy = policy_for(toy)
    env = gym.make("CrystalSkeleton-v0", collection=toy, split="all")
    model = warm_start(policy, "ppo", env, critic_warm_up=0, n_steps=30, batch_size=10)
    assert agreement(model, policy, 20) == 1
    model.learn(30)


def test_from_scratch_has_the_same_network_with_other_weights(toy):
    policy = policy_for(toy)
    model = from_scratch(policy, "ppo", envs_for(toy), seed=4, **SHORT)
    network = get_features_extractor(model.policy).network
    assert network.config.settings == policy.config.settings
    assert {k: v.shape for k, v in network.state_dict().items()} == {
        k: v.shape for k, v in policy.state_dict().items()
    }
    assert not equal_weights(policy.state_dict(), network.state_dict())
    again = from_scratch(policy.config, "ppo", envs_for(toy), seed=4)
    assert equal_weights(
        network.state_dict(), get_features_extractor(again.policy).network.state_dict()
    )
    before = copy_weights(network)
    model.learn(1)
    assert not equal_weights(before, copy_weights(network))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_loaded_models_have_the_weights_and_settings_of_saved_ones(toy, tmp_path, algorithm):
    model = warm_start(
        policy_for(toy), algorithm, envs_for(toy), critic_warm_up=30, **short_rollouts(algorithm)
    )
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=model.get_env())
    assert equal_weights(copy_weights(model.policy), copy_weights(loaded.policy))
    assert loaded.critic_warm_up == 30
    if ALGORITHMS[algorithm].supports_anchor:
        assert loaded.anchor(1.0) == model.anchor(1.0) > 0
    loaded.critic_warm_up = 0
    loaded.learn(60)
    assert loaded.num_timesteps >= 60


LOAD_AND_PREDICT = """
import sys, json, numpy as np
from crystal_agents.online import algorithms
model = getattr(algorithms, sys.argv[1]).load(sys.argv[2])
batch = dict(np.load(sys.argv[3]))
print(json.dumps(model.predict(batch, deterministic=True)[0].tolist()))
"""


def test_models_act_equally_when_loaded_in_another_process(toy, tmp_path):
    model = warm_start(policy_for(toy), "ppo", envs_for(toy))
    batch = next(random_states(model.get_env(), 1))
    model.save(tmp_path / "model.zip")
    np.savez(tmp_path / "batch.npz", **batch)
    files = [tmp_path / "model.zip", tmp_path / "batch.npz"]
    output = subprocess.run(
        [sys.executable, "-c", LOAD_AND_PREDICT, "SkeletonPPO", *files],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert json.loads(output) == model.predict(batch, deterministic=True)[0].tolist()


def test_load_rejects_a_damaged_file(toy, tmp_path):
    model = warm_start(policy_for(toy), "ppo", envs_for(toy))
    path = tmp_path / "model.zip"
    model.save(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="zip"):
        SkeletonPPO.load(path)


@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_warm_start_rejects_algorithms_with_continuous_actions(toy, algorithm):
    with pytest.raises(CrystalGymError, match=f"discrete actions, got {algorithm}"):
        warm_start(policy_for(toy), algorithm, envs_for(toy))


def test_warm_start_rejects_unknown_algorithms(toy):
    with pytest.raises(UnknownNameError, match=r"Did you mean 'ppo'\?"):
        warm_start(policy_for(toy), "ppoo", envs_for(toy))


def test_warm_start_rejects_other_environments(toy):
    policy = policy_for(toy)
    with pytest.raises(CrystalGymError, match="Expected CrystalSkeleton-v0"):
        warm_start(policy, "ppo", gym.make("CartPole-v1"))
    with pytest.raises(CrystalGymError, match="Expected a CrystalSkeletonVectorEnv"):
        warm_start(policy, "ppo", gym.make_vec("CartPole-v1", 2))


@pytest.mark.parametrize("algorithm", ["dqn", "ppo", "a2c"])
def test_warm_start_rejects_masks_that_the_algorithm_ignores(toy, algorithm):
    with pytest.raises(CrystalGymError, match="Choose maskable-ppo"):
        warm_start(policy_for(toy), algorithm, envs_for(toy, mask="charge-neutral"))


@pytest.mark.parametrize(
    ("algorithm", "settings", "message"),
    [
        ("dqn", {"anchor": 0.1}, "Leave the anchor out, or choose one of ppo, maskable-ppo, a2c"),
        ("ppo", {"anchor": -1}, "coefficient to be 0 or positive, got -1"),
        ("ppo", {"anchor": np.nan}, "coefficient to be 0 or positive, got nan"),
        ("ppo", {"critic_warm_up": -1}, "critic_warm_up to be 0 or a positive number"),
        ("ppo", {"learning_rate": 0}, "positive learning rate, got 0"),
        ("ppo", {"seed": -1}, "seed"),
    ],
)
def test_warm_start_rejects_settings_out_of_range(toy, algorithm, settings, message):
    with pytest.raises(CrystalGymError, match=message):
        warm_start(policy_for(toy), algorithm, envs_for(toy), **settings)


def test_models_reject_another_vocabulary_and_larger_cells(toy):
    other = policy_for(toy, symbols=("H", "O"))
    # Networks that encode the focus as a number have a limit.
    small = policy_for(toy, "egnn-paper", {"hidden": 16}, max_sites=4)
    for create in (warm_start, from_scratch):
        with pytest.raises(CrystalGymError, match="2 elements"):
            create(other, "ppo", envs_for(toy))
        with pytest.raises(CrystalGymError, match=r"4 sites.* 6"):
            create(small, "ppo", envs_for(toy))
