"""The reward ``novelty``: the bonus and its sums."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crystal_gym.episode import EpisodeTable, finished
from crystal_gym.rewards import NoveltyReward, Reward, finish, resolve_reward


@settings(max_examples=20)
@given(order=st.permutations(list(range(4)) * 3))
def test_the_total_of_repeated_visits_is_independent_of_their_order(toy, order):
    """The total is the sum of the first n bonuses of each filling."""
    table, crystals = EpisodeTable(toy), np.array([1, 1, 2, 5])[order]
    state = finished(table, crystals, table.true_elements[crystals])
    reward = NoveltyReward(by="filling")
    bonus, components = reward.on_finish(table, state)
    assert len(reward.counts) == 3
    assert np.isclose(bonus.sum(), sum(np.sum(np.arange(1, n + 1) ** -0.5) for n in (6, 3, 3)))
    assert np.allclose(bonus, components["count"] ** -0.5)


def test_a_part_of_a_sum_with_and_without_memory(toy):
    table, rows = EpisodeTable(toy), np.array([3, 3])
    state = finished(table, rows, table.true_elements[rows])
    total = resolve_reward({"validity": 1.0, "novelty": {"weight": 0.5, "by": "filling"}})
    (valid, _), (values, components) = (
        finish(resolve_reward("validity"), table, state), finish(total, table, state),
    )  # fmt: skip
    assert np.allclose(values - valid, [0.5, 0.5 * 2**-0.5])
    assert components["novelty/count"].tolist() == [1, 2]
    assert list(total.memories()) == ["novelty/novelty"]
    stationary = total.without_memory()
    assert not stationary.memories()
    assert np.array_equal(finish(stationary, table, state)[0], valid)
    assert finish(total, table, state)[1]["novelty/count"].tolist() == [3, 4]
    assert resolve_reward("match").memories() == Reward().memories() == {}
