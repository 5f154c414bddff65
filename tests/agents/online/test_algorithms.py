"""Online learning: the critic's warm-up, the KL anchor, exploration and masks."""

import numpy as np
import pytest
import torch
from online_models import (
    N_ENVS,
    SHORT,
    agreement,
    copy_weights,
    envs_for,
    equal_weights,
    policy_for,
    random_states,
    short_rollouts,
)
from stable_baselines3 import PPO
from stable_baselines3.common.utils import ConstantSchedule

from crystal_agents import SkeletonVecEnv, extract_policy, from_scratch, warm_start
from crystal_agents.online.algorithms import ALGORITHMS
from crystal_agents.online.critic_warm_up import (
    FrozenActorWarning,
    flushed_denormals,
    get_features_extractor,
)
from crystal_agents.online.sb3_policies import SkeletonActorCritic
from crystal_gym.errors import CrystalGymError


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_actor_does_not_change_during_the_critic_warm_up(toy, algorithm):
    model = warm_start(
        policy_for(toy),
        algorithm,
        envs_for(toy),
        critic_warm_up=100_000,
        **short_rollouts(algorithm),
    )
    network = get_features_extractor(model.policy).network
    actor, whole = copy_weights(network), copy_weights(model.policy)
    with pytest.warns(FrozenActorWarning, match="Only the critic learned"):
        model.learn(300)
    assert equal_weights(actor, copy_weights(network))
    assert not equal_weights(whole, copy_weights(model.policy))
    model.critic_warm_up = 0
    model.learn(300)
    assert not equal_weights(actor, copy_weights(network))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_critic_warm_up_covers_the_first_update_for_any_rollout_length(toy, algorithm):
    model = warm_start(
        policy_for(toy), algorithm, envs_for(toy), critic_warm_up=1, **short_rollouts(algorithm)
    )
    network = get_features_extractor(model.policy).network
    actor, whole = copy_weights(network), copy_weights(model.policy)
    with pytest.warns(FrozenActorWarning, match="at least one update"):
        model.learn(1)
    assert model.num_timesteps > model.critic_warm_up
    assert equal_weights(actor, copy_weights(network))
    assert not equal_weights(whole, copy_weights(model.policy))
    # 300 steps, because DQN's actor has no gradient from its own greedy actions.
    model.learn(300, reset_num_timesteps=False)
    assert not equal_weights(actor, copy_weights(network))


def test_learn_warns_if_training_ends_within_the_warm_up(toy):
    model = warm_start(policy_for(toy), "ppo", envs_for(toy), critic_warm_up=200, **SHORT)
    with pytest.warns(FrozenActorWarning, match=r"critic learned in 96 steps.*critic_warm_up=200"):
        model.learn(96)
    # Warnings are errors in the following calls.
    model.learn(192, reset_num_timesteps=False)
    from_scratch(policy_for(toy), "ppo", envs_for(toy), **SHORT).learn(96)


def test_subnormal_numbers_are_zero_in_updates_only():
    tiny = torch.tensor([1e-30])
    with flushed_denormals():
        assert (tiny * 1e-10).item() == 0
    assert (tiny * 1e-10).item() > 0


def test_dqn_explores_independently_in_each_environment(toy):
    """Stable-Baselines3 explores in all environments of a vector or in none."""
    envs = envs_for(toy, 500)
    model = warm_start(policy_for(toy), "dqn", envs, seed=3)
    batch = next(random_states(model.get_env(), 1))
    greedy = model.predict(batch, deterministic=True)[0]
    n = envs.single_action_space.n
    model.exploration_rate = 0.2
    actions = np.stack([model.predict(batch)[0] for _ in range(40)])
    fractions = (actions != greedy).mean(1)
    # 500 draws each: three standard deviations are 0.054.
    assert np.abs(fractions - 0.2 * (1 - 1 / n)).max() < 0.07
    assert fractions.mean() == pytest.approx(0.2 * (1 - 1 / n), abs=0.01)
    model.set_random_seed(3)
    first = model.predict(batch)[0]
    model.set_random_seed(3)
    np.testing.assert_array_equal(first, model.predict(batch)[0])
    model.exploration_rate = 0.0
    np.testing.assert_array_equal(model.predict(batch)[0], greedy)
    model.exploration_rate = 1.0
    counts = np.bincount(np.concatenate([model.predict(batch)[0] for _ in range(4)]), minlength=n)
    assert len(counts) == n
    assert counts.min() > 0.7 * counts.mean()
    single = {key: value[0] for key, value in batch.items()}
    assert {int(model.predict(single)[0]) for _ in range(20 * n)} == set(range(n))


def mean_divergence(model, policy, n=100):
    """Return the mean KL divergence of the model from a policy over n states."""
    divergences = []
    for batch in random_states(model.get_env(), n):
        tensors, _ = model.policy.obs_to_tensor(batch)
        with torch.no_grad():
            logits = model.policy.get_distribution(tensors).distribution.logits
        reference = torch.as_tensor(policy.probabilities(batch)).log()
        divergences.append((logits.exp() * (logits - reference)).sum(-1))
    return float(torch.cat(divergences).mean())


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "maskable-ppo"])
def test_anchor_keeps_the_actor_near_the_cloned_policy(toy, algorithm):
    policy = policy_for(toy)
    divergence = {}
    for strength in (0.0, 1000.0):
        model = warm_start(
            policy,
            algorithm,
            envs_for(toy),
            critic_warm_up=0,
            anchor=ConstantSchedule(strength),
            learning_rate=3e-4,
            **short_rollouts(algorithm),
        )
        before = model.ent_coef
        model.learn(700)
        assert model.ent_coef == before
        divergence[strength] = mean_divergence(model, policy)
    assert divergence[1000.0] < 0.2 * divergence[0.0]
    assert agreement(model, policy, 200) > 0.98


def test_anchor_is_the_divergence_from_the_initial_policy(toy):
    """The term that the loss subtracts equals the formula."""
    policy = policy_for(toy)
    model = warm_start(policy, "ppo", envs_for(toy), critic_warm_up=0, anchor=0.0, **SHORT)
    model.learn(300)
    learned = extract_policy(model)
    anchored = warm_start(policy, "ppo", envs_for(toy), anchor=0.5)
    get_features_extractor(anchored.policy).network.load_state_dict(learned.state_dict())
    batch = next(random_states(anchored.get_env(), 1))
    tensors, _ = anchored.policy.obs_to_tensor(batch)
    actions = torch.zeros(N_ENVS, dtype=torch.int64)
    _, _, entropy = anchored.policy.evaluate_actions(tensors, actions)
    anchored.policy.regularization = (0.3, 0.5)
    _, _, term = anchored.policy.evaluate_actions(tensors, actions)
    p, q = (torch.as_tensor(actor.probabilities(batch)).double() for actor in (learned, policy))
    expected = 0.3 * entropy - 0.5 * (p * (p / q).log()).sum(-1)
    torch.testing.assert_close(term.double(), expected, rtol=1e-3, atol=1e-5)
    assert (expected - 0.3 * entropy).abs().max() > 1e-4


def test_without_warm_up_and_anchor_training_equals_plain_ppo(toy):
    policy = policy_for(toy)
    warm = warm_start(policy, "ppo", envs_for(toy), critic_warm_up=0, anchor=0, **SHORT)
    settings = {**ALGORITHMS["ppo"].settings, **SHORT}
    plain = PPO(
        SkeletonActorCritic,
        SkeletonVecEnv(envs_for(toy)),
        seed=0,
        device="cpu",
        policy_kwargs=warm.policy_kwargs,
        **settings,
    )
    get_features_extractor(plain.policy).network.load_state_dict(policy.state_dict())
    plain.policy.value_net.load_state_dict(warm.policy.value_net.state_dict())
    for model in (warm, plain):
        model.set_random_seed(1)
        model.learn(180)
    assert type(plain) is PPO
    assert equal_weights(copy_weights(warm.policy), copy_weights(plain.policy))
    trained = copy_weights(get_features_extractor(warm.policy).network)
    assert not equal_weights(policy.state_dict(), trained)


def test_maskable_ppo_respects_the_mask(toy):
    def first_two(table, state):
        allowed = np.zeros((len(state.crystal), table.n_elements), bool)
        allowed[:, :2] = True
        return allowed

    model = warm_start(
        policy_for(toy), "maskable-ppo", envs_for(toy, mask=first_two), critic_warm_up=0, **SHORT
    )
    model.learn(1)
    assert model.rollout_buffer.actions.max() <= 1


def test_maskable_ppo_rejects_a_mask_that_allows_no_element(toy):
    def nothing(table, state):
        return np.zeros((len(state.crystal), table.n_elements), bool)

    model = warm_start(policy_for(toy), "maskable-ppo", envs_for(toy, mask=nothing))
    with pytest.raises(CrystalGymError, match="mask with at least one element"):
        model.learn(100)
