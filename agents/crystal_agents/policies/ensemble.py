"""Ensembles of policies."""

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax, logsumexp

from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_gym.episode import EpisodeState, EpisodeTable


class EnsembleScorer:
    """A scorer that averages the probabilities of several policies.

    Args:
        policies: The policies, with the vocabulary of the table.
        table: The crystals.

    Raises:
        CrystalGymError: If the vocabulary of a policy differs from that of the table, or if a cell
            has more sites than a network allows.
    """

    def __init__(self, policies: Sequence[SkeletonPolicy], table: EpisodeTable) -> None:
        self.members = [PolicyScorer(policy, table) for policy in policies]

    def __call__(self, state: EpisodeState) -> np.ndarray:
        """Return the logarithms of the mean probabilities, (B, V)."""
        log_probabilities = [log_softmax(member(state), axis=1) for member in self.members]
        return logsumexp(np.stack(log_probabilities), axis=0) - np.log(len(self.members))
