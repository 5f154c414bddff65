"""The diversity filter: values, parameters and evaluation."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.episode import EpisodeTable, finished
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards import DiversityFilter, MatchReward, Reward, ValidityReward, resolve_reward


class Electronegative(Reward):
    """Mean code of the elements minus 3, at the end."""

    components = ("mean",)
    labels = ("heat",)

    def on_finish(self, table, state):
        mean = np.where(state.elements > 0, state.elements, 0).sum(1) / state.n_sites
        return mean - 3, {"mean": mean}


@settings(max_examples=30)
@given(
    rows=st.lists(st.integers(0, 11), min_size=1, max_size=15),
    limit=st.integers(1, 4),
    floor=st.floats(-3, 3),
)
def test_the_filter_limits_crystals_beyond_the_limit_and_increases_none(toy, rows, limit, floor):
    table, crystals = EpisodeTable(toy), np.array(rows)
    state = finished(table, crystals, table.true_elements[crystals])
    reward = DiversityFilter(Electronegative(), limit, floor, by="filling")
    values, components = reward.on_finish(table, state)
    plain = Electronegative().on_finish(table, state)[0]
    assert np.array_equal(components["unfiltered"], plain)
    assert np.array_equal(components["mean"], plain + 3)
    rank = components["count"]
    assert np.array_equal(values[rank <= limit], plain[rank <= limit])
    assert np.array_equal(values[rank > limit], np.minimum(plain, floor)[rank > limit])
    # Each filling has at most `limit` values above the floor.
    fillings = [tuple(elements) for elements in state.elements[values > floor].tolist()]
    assert all(fillings.count(filling) <= limit for filling in fillings)
    assert set(components) == set(reward.components)
    assert reward.labels == ("heat",)


def test_known_crystals_have_reached_the_limit(toy):
    table = EpisodeTable(toy)
    reward = DiversityFilter(Electronegative(), limit=3, floor=-9, known="train")
    reward.prepare(table)
    rows = toy.in_split("train")
    state = finished(table, rows, table.true_elements[rows])
    assert np.array_equal(reward.on_finish(table, state)[0], np.full(len(rows), -9))


def test_a_filter_is_given_by_name(toy):
    parameters = {"reward": {"validity": 0.5}, "limit": 1, "floor": 0.1, "by": "filling"}
    spec = gym.make("CrystalSkeleton-v0", reward={"diversity-filter": parameters}).spec
    reward = gym.make(gym.envs.registration.EnvSpec.from_json(spec.to_json())).unwrapped.reward
    assert isinstance(reward, DiversityFilter)
    assert (reward.limit, reward.floor, reward.counts.by) == (1, 0.1, "filling")
    assert isinstance(resolve_reward("diversity-filter").reward, ValidityReward)
    assert reward.definition.endswith(
        "; diversity filter: at most 1 crystals of each filling above 0.1"
    )
    env = CrystalSkeletonEnv(collection=toy, reward={"diversity-filter": {"reward": "match"}})
    env.reset(options={"crystal": 2})
    # Rewards of steps are not filtered.
    assert env.step(env.expert_action())[1] == pytest.approx(1 / 3)


def test_evaluation_uses_the_reward_without_the_filter():
    inner = MatchReward()
    reward = DiversityFilter(inner)
    assert reward.without_memory() is inner
    nested = resolve_reward({"diversity-filter": {"reward": {"match": 1, "novelty": 1}}})
    assert list(nested.memories()) == ["diversity-filter", "novelty/novelty"]
    assert not nested.without_memory().memories()


def test_invalid_parameters_are_errors():
    for limit in (0, True, 1.5):
        with pytest.raises(CrystalGymError, match="Expected limit of a diversity filter"):
            DiversityFilter(MatchReward(), limit)
    with pytest.raises(CrystalGymError, match="Expected floor of a diversity filter"):
        DiversityFilter(MatchReward(), floor=np.nan)
    with pytest.raises(UnknownNameError, match="'site'"):
        DiversityFilter(MatchReward(), by="site")
    with pytest.raises(CrystalGymError, match="without the component 'unfiltered'"):
        DiversityFilter(DiversityFilter(MatchReward()))
