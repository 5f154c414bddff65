"""FIXDOC."""

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax, logsumexp

from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_gym.episode import EpisodeState, EpisodeTable


class EnsembleScorer:
    """Mean probability of several policies, as logarithms.

    Args:
        policies: of one vocabulary, the table's.
        table: the crystals.
    """

    def __init__(self, policies: Sequence[SkeletonPolicy], table: EpisodeTable) -> None:
        self.members = [PolicyScorer(policy, table) for policy in policies]

    def __call__(self, state: EpisodeState) -> np.ndarray:
        """Log probabilities (B, V)."""
        logs = [log_softmax(member(state), axis=1) for member in self.members]
        return logsumexp(np.stack(logs), axis=0) - np.log(len(logs))
