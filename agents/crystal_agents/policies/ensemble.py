"""Ensembles of policies."""

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax, logsumexp

from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_gym.episode import EpisodeState, EpisodeTable


class EnsembleScorer:
    """A scorer that averages the probabilities of several policies.

    Args:
        policies: The policies; their vocabulary is that of the table.
        table: The crystals.

    Raises:
        CrystalGymError: If a policy does not fit the table.
    """

    def __init__(self, policies: Sequence[SkeletonPolicy], table: EpisodeTable) -> None:
        self.members = [PolicyScorer(policy, table) for policy in policies]

    def __call__(self, state: EpisodeState) -> np.ndarray:
        """Return the logarithms of the mean probabilities, (B, V)."""
        logs = [log_softmax(member(state), axis=1) for member in self.members]
        return logsumexp(np.stack(logs), axis=0) - np.log(len(logs))
