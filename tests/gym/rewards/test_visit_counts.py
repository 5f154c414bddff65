"""Counts of finished crystals: batches, known crystals, files, and seeds of environments."""

import copy
import pickle

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.episode import EpisodeTable, finished
from crystal_gym.errors import DamagedFileError, UnknownNameError
from crystal_gym.rewards import NoveltyReward, VisitCounts
from crystal_gym.rewards.visit_counts import load_counts, save_counts


@pytest.fixture(scope="module")
def table(toy):
    return EpisodeTable(toy)


def fillings(table, codes):
    """Return finished crystals with three sites (row 2 of the toy crystals)."""
    elements = np.tile(table.blank[2], (len(codes), 1))
    elements[:, :3] = codes
    return finished(table, np.full(len(codes), 2), elements)


CODES = st.lists(st.tuples(*[st.integers(1, 3)] * 3), min_size=1, max_size=12)


@given(codes=CODES, cut=st.integers(0, 12), by=st.sampled_from(["composition", "filling"]))
def test_counts_are_ranks_among_equal_crystals_for_any_batches(table, codes, cut, by):
    whole, parts = VisitCounts(by), VisitCounts(by)
    counted = whole.add(table, fillings(table, codes))
    batches = [part for part in (codes[:cut], codes[cut:]) if part]
    in_parts = [parts.add(table, fillings(table, part)) for part in batches]
    keys = [tuple(sorted(code)) if by == "composition" else code for code in codes]
    expected = [keys[: i + 1].count(key) for i, key in enumerate(keys)]
    assert counted.tolist() == np.concatenate(in_parts).tolist() == expected
    assert len(whole) == len(set(keys))


def test_compositions_have_no_common_factor_and_fillings_have_an_order(table):
    one_site, two_sites = finished(
        table, np.array([0]), np.array([[2, -1, -1, -1, -1, -1]])
    ), finished(table, np.array([1]), np.array([[2, 2, -1, -1, -1, -1]]))  # fmt: skip
    by_composition, by_filling = VisitCounts(), VisitCounts("filling")
    assert [int(by_composition.add(table, state)[0]) for state in (one_site, two_sites)] == [1, 2]
    assert [int(by_filling.add(table, state)[0]) for state in (one_site, two_sites)] == [1, 1]
    with pytest.raises(UnknownNameError, match="by which crystals are counted 'formula'"):
        VisitCounts("formula")


def test_known_crystals_count_from_the_start(table, toy):
    rows = toy.in_split("train")
    counts = VisitCounts("filling")
    counts.start(toy.atomic_numbers[rows], 3)
    state = finished(table, rows, table.true_elements[rows])
    assert counts.add(table, state).min() == 4
    counts.reset()
    assert counts.add(table, state).min() == 4
    counts.start()
    assert counts.add(table, state).min() == 1
    reward = NoveltyReward(known="all")
    reward.prepare(table)
    assert reward.on_finish(table, state)[0].max() <= 1 / np.sqrt(2)
    with pytest.raises(UnknownNameError, match="split 'known'"):
        NoveltyReward(known="known").prepare(table)


def test_files_restore_the_counts(table, tmp_path):
    reward, same = NoveltyReward(), NoveltyReward()
    state = fillings(table, [(1, 1, 2), (3, 2, 1), (2, 1, 1)])
    reward.on_finish(table, state)
    file = tmp_path / "counts.npz"
    save_counts(file, reward.memories())
    load_counts(file, same.memories())
    assert np.array_equal(reward.on_finish(table, state)[0], same.on_finish(table, state)[0])
    with pytest.raises(DamagedFileError, match=r"Expected counts .*counts\.npz"):
        load_counts(file, {"other": VisitCounts()})
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DamagedFileError, match="Delete the run's folder"):
        load_counts(file, same.memories())


@pytest.mark.parametrize("name", ["novelty", "diversity-filter"])
def test_rewards_with_a_memory_pass_the_check_of_gymnasium(toy, name):
    check_env(CrystalSkeletonEnv(collection=toy, reward=name), skip_render_check=True)


def finish_one(env, seed=None):
    """Fill crystal 2 with one element in all environments; return the rewards of the last step."""
    many = isinstance(env, CrystalSkeletonVectorEnv)
    env.reset(seed=seed, options={"crystal": 2})
    for _ in range(3):
        results = env.step(np.zeros(env.num_envs, np.int64) if many else 0)
    return np.atleast_1d(results[1])


def test_a_seed_starts_anew_and_other_resets_do_not(toy):
    single = CrystalSkeletonEnv(collection=toy, reward="novelty")
    total = [finish_one(single, seed)[0] for seed in (0, None, None, 0)]
    assert np.allclose(total, [1, 2**-0.5, 3**-0.5, 1])
    vector = CrystalSkeletonVectorEnv(2, collection=toy, reward="novelty")
    assert np.allclose([*finish_one(vector, 0), *finish_one(vector)], np.arange(1, 5) ** -0.5)
    for copied in (copy.deepcopy(vector), pickle.loads(pickle.dumps(vector))):  # noqa: S301
        assert np.allclose(finish_one(copied), [5**-0.5, 6**-0.5])
    assert np.allclose(finish_one(vector), [5**-0.5, 6**-0.5])


def test_an_environment_starts_anew_when_it_is_made(toy):
    reward = NoveltyReward()
    assert finish_one(CrystalSkeletonEnv(collection=toy, reward=reward)) == 1
    assert finish_one(CrystalSkeletonEnv(collection=toy, reward=reward)) == 1
