"""Decisions of a policy for each site alone."""

import dataclasses

import numpy as np

from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_gym.episode import EpisodeState, EpisodeTable, start


class SiteBySiteScorer:
    """A scorer that does not receive the elements which the policy has chosen before.

    A policy treats its earlier choices as evidence, so its greedy choices approach the most
    probable filling. The elements with the highest probabilities given only the geometry and the
    kept sites have the highest expected accuracy instead.

    Args:
        policy: The policy, with the vocabulary of the table.
        table: The crystals.

    Raises:
        CrystalGymError: See ``PolicyScorer``.
    """

    def __init__(self, policy: SkeletonPolicy, table: EpisodeTable) -> None:
        self._scorer = PolicyScorer(policy, table)
        self._table = table

    def __call__(self, state: EpisodeState) -> np.ndarray:
        """Return the logits in a batch of B episodes, float32 (B, V)."""
        initial = start(
            self._table, state.crystal, state.order, state.n_kept, kept_elements=state.elements
        )
        return self._scorer(dataclasses.replace(state, elements=initial.elements))
