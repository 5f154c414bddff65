"""Reward for a composition that is chemically valid."""

import numpy as np

from crystal_gym.crystals.validity import RULES, is_valid
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import UnknownNameError
from crystal_gym.rewards.reward import Reward


class ValidityReward(Reward):
    """1 at the end of an episode if SMACT finds the composition valid, else 0.

    Args:
        rule: a name of ``crystal_gym.crystals.validity.RULES``. The default is the paper's measure, which
            single elements and alloys satisfy; ``strict`` excludes them.
    """

    def __init__(self, rule: str = "smact14") -> None:
        if not isinstance(rule, str) or rule not in RULES:
            raise UnknownNameError("validity rule", rule, RULES)
        self.rule = rule

    def on_finish(
        self, table: EpisodeTable, crystal: np.ndarray, elements: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """1 or 0, and the same as component ``validity``."""
        valid = is_valid(table.vocabulary.decode(elements), self.rule).astype(np.float64)
        return valid, {"validity": valid}
