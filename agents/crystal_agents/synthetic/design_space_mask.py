"""The action mask of a design space: fillings that combine elements as the training crystals do."""

import numpy as np

from crystal_agents.synthetic.design_space import DesignSpace, independent_blocks
from crystal_gym.episode import EpisodeState, EpisodeTable


class DesignSpaceMask:
    """A mask that allows the elements with which a filling of the design space can be reached.

    The crystals must number their sites as the training crystals do. If a filled site contradicts
    the design space, all elements are allowed on the sites that depend on it.

    Args:
        table: The crystals.
        train: Rows of the training crystals, whose combinations of elements are the design space.

    Raises:
        NoPrototypeError: If the design space is too large.
    """

    def __init__(self, table: EpisodeTable, train: np.ndarray) -> None:
        space = DesignSpace.of(table.true_elements[train])
        self._blocks = [
            (block, np.unique(space.fillings[:, block], axis=0))
            for block in independent_blocks(space.fillings)
        ]

    def __call__(self, table: EpisodeTable, state: EpisodeState) -> np.ndarray:
        """Return the allowed elements, bool (V,) or (B, V)."""
        elements, focus = np.atleast_2d(state.elements), np.atleast_1d(state.focus)
        allowed = np.ones((len(focus), table.n_elements), bool)
        for block, combinations in self._blocks:
            for place, site in enumerate(block):
                rows = np.flatnonzero(focus == site)
                filled = elements[rows][:, None, block]
                agrees = (filled == 0) | (filled == combinations)
                agrees[..., place] = True
                is_element = np.eye(table.n_elements, dtype=int)[combinations[:, place] - 1]
                possible = (agrees.all(-1).astype(int) @ is_element) > 0
                allowed[rows] = possible | ~possible.any(1, keepdims=True)
        return allowed if state.rows else allowed[0]
