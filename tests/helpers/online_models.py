"""Small policies, environments and rollouts for tests of online learning."""

import numpy as np
import torch

from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_gym import CrystalSkeletonVectorEnv
from crystal_gym.rewards import Reward

SETTINGS = {"hidden": 16, "vectors": 4, "geometry_layers": 1, "filling_layers": 1, "dropout": 0.3}
N_ENVS = 8
# Rollouts of 96 steps.
SHORT = {"n_steps": 12, "batch_size": 48}


class PartlyLabeled(Reward):
    """Pays 1. The component ``label`` is 3 for even rows and missing for odd ones."""

    components = ("label", "failures")

    def on_finish(self, table, state):
        label = np.where(state.crystal % 2 == 0, 3.0, np.nan)
        return np.ones(len(state.crystal)), {
            "label": label,
            "failures": np.full(len(state.crystal), 7.0),
        }


def policy_for(toy, network="egnn", settings=SETTINGS, *, symbols=None, max_sites=None):
    """Return a policy with random weights for the toy collection."""
    torch.manual_seed(0)
    config = PolicyConfig(
        network, symbols or toy.vocabulary.symbols, max_sites or toy.max_sites, settings
    )
    return SkeletonPolicy(config).eval()


def envs_for(collection, n=N_ENVS, **keywords):
    """Return a native vector environment that Stable-Baselines3 can use."""
    return CrystalSkeletonVectorEnv(
        n, collection=collection, **{"split": "all", "autoreset_mode": "SameStep", **keywords}
    )


def short_rollouts(algorithm):
    """Return settings of short rollouts; DQN has none."""
    settings = {"ppo": SHORT, "maskable-ppo": SHORT, "a2c": {"n_steps": 12}}
    return settings.get(algorithm, {})


def random_states(envs, n, seed=0):
    """Yield at least n observations of random actions, in batches."""
    envs.seed(seed)
    observations, count = envs.reset(), 0
    rng = np.random.default_rng(seed)
    while count < n:
        yield observations
        count += envs.num_envs
        actions = rng.integers(0, envs.action_space.n, envs.num_envs)
        observations = envs.step(actions)[0]


def agreement(model, policy, n):
    """Return the fraction of n states in which model and policy choose the same greedy action."""
    same = [
        model.predict(batch, deterministic=True)[0] == policy.act(batch)
        for batch in random_states(model.get_env(), n)
    ]
    return np.mean(np.concatenate(same)[:n])


def copy_weights(module):
    """Return a copy of a module's weights."""
    return {key: value.clone() for key, value in module.state_dict().items()}


def equal_weights(first, second):
    """Return whether the weights in two dictionaries are equal."""
    return all(torch.equal(value, second[key]) for key, value in first.items())
