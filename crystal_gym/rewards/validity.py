"""Reward for a chemically valid composition."""

import numpy as np

from crystal_gym.crystals.validity import is_valid, rule_description
from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.rewards.reward import Reward


class ValidityReward(Reward):
    """1 at the end of the episode if the composition is valid by SMACT, else 0.

    Component: ``validity``, the same value.

    Args:
        rule: A name of ``crystal_gym.crystals.validity.RULES``. The default is the measure of
            "Behavioral Cloning for Crystal Design", which accepts single elements and all
            compositions of metals alone; ``strict`` rejects both.

    Attributes:
        rule: Name of the rule.
        definition: The rule, the version of SMACT and the set of oxidation states, in one line.

    Raises:
        UnknownNameError: If the rule does not exist.
    """

    components = ("validity",)

    def __init__(self, rule: str = "smact14") -> None:
        self.definition = f"validity: rule {rule_description(rule)}"
        self.rule = rule

    def on_finish(
        self, table: EpisodeTable, state: EpisodeState
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Check the compositions.

        Args:
            table: The crystals.
            state: A batch of k finished episodes.

        Returns:
            The rewards, float64 (k,), and the component ``validity``.
        """
        valid = is_valid(table.vocabulary.decode(state.elements), self.rule).astype(np.float64)
        return valid, {"validity": valid}
