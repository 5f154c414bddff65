"""Design spaces: the possible fillings of a prototype."""

import numpy as np
import pytest

from crystal_agents.synthetic import NoPrototypeError
from crystal_agents.synthetic.design_space import DesignSpace


def test_design_space_combines_independent_sites_and_keeps_other_combinations():
    rng = np.random.default_rng(0)
    triples = np.array([[1, 1, 1], [2, 2, 2], [3, 1, 1], [3, 2, 2]])
    codes = np.column_stack([rng.integers(4, 7, (300, 2)), triples[rng.integers(0, 4, 300)]])
    space = DesignSpace.of(codes)
    assert len(space) == 3 * 3 * 4
    assert {tuple(row) for row in codes} <= {tuple(row) for row in space.fillings}
    rebuilt = [e[column] for e, column in zip(space.elements, space.choices.T, strict=True)]
    np.testing.assert_array_equal(np.stack(rebuilt, 1), space.fillings)
    np.testing.assert_array_equal(space.choices_of(space.fillings), space.choices)


def test_a_design_space_that_is_too_large_raises():
    codes = np.stack(np.meshgrid(np.arange(1, 500), np.arange(1, 500)), -1).reshape(-1, 2)
    with pytest.raises(NoPrototypeError, match=r"at most 200,000 combinations .* got 249,001"):
        DesignSpace.of(codes)
