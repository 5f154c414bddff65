"""Policies with random weights that are fast enough for tests."""

import numpy as np
import torch

from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy

SETTINGS = {"hidden": 16, "vectors": 4, "geometry_layers": 1, "filling_layers": 1}
SYMBOLS = ("O", "Na", "Cl", "Ti", "Sr")
PEROVSKITE = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]


def small_policy(collection, seed=0, symbols=None):
    """Return a small EGNN for the collection's sites and elements."""
    torch.manual_seed(seed)
    vocabulary = symbols or collection.vocabulary.symbols
    return SkeletonPolicy(PolicyConfig("egnn", vocabulary, collection.max_sites, SETTINGS)).eval()


def expert_scorer(table):
    """Return a scorer that chooses the true elements."""

    def score(state):
        true = table.true_elements[state.crystal, state.focus] - 1
        return np.eye(len(table.vocabulary))[true]

    return score


def make_policy(network="egnn", scale=1.0):
    """Return an untrained policy; a larger scale gives more confident probabilities."""
    torch.manual_seed(0)
    settings = SETTINGS if network == "egnn" else {"hidden": 16}
    policy = SkeletonPolicy(PolicyConfig(network, SYMBOLS, 5, settings)).eval()
    with torch.no_grad():
        for parameter in policy.readout.parameters():
            parameter.mul_(scale)
    return policy
