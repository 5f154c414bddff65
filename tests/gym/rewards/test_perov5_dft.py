"""Rewards from a table of labels: look-up, strain, what is missing, and exact regret."""

import csv
import dataclasses
import io
import itertools
import json
import logging
import pickle

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_gym.collections import load_collection
from crystal_gym.collections import perov5 as source
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, MissingDataError, UnknownNameError
from crystal_gym.rewards import Perov5DftReward, Perov5GapReward, RewardError, resolve_reward
from crystal_gym.rewards.perov5_dft import strain_energy
from crystal_gym.utils.files import find_local

GPA = 160.21766208  # in an eV/Å³


@pytest.fixture(scope="module")
def crystals():
    """Sixty cubic ABX3 crystals with labels that are made up, six of them without."""
    rng = np.random.default_rng(0)
    few = load_collection("goldschmidt", progress=False)
    few = few.take(rng.permutation(len(few))[:60])
    heat, gap = rng.normal(1, 1, 60).round(2), rng.exponential(2, 60).round(2)
    heat[::10] = gap[::10] = np.nan
    labels = {"heat_all": heat, "ind_gap": gap, "dir_gap": gap + 0.5}
    return dataclasses.replace(few, name="labelled", labels=labels)


@pytest.fixture(scope="module")
def table(crystals):
    return EpisodeTable(crystals, Vocabulary(tuple(reversed(crystals.vocabulary.symbols))), 7)


def put_on(table, skeletons, crystals):
    """Elements of some crystals, to be put on other skeletons."""
    return np.asarray(skeletons), table.true_elements[crystals]


def slow_energy(collection, skeleton, crystal, bulk_modulus):
    """Heat and strain of one crystal on one skeleton, by the textbook's formula."""
    a0, a = collection.parameters[crystal, 0], collection.parameters[skeleton, 0]
    change = (3 * (a - a0) / a0) ** 2  # of the volume
    energy = bulk_modulus / GPA * a0**3 * change / 2
    return collection.labels["heat_all"][crystal] + energy / 5


@given(st.floats(3, 6), st.floats(1, 400))
def test_the_strain_energy_has_the_bulk_modulus_it_is_given(a0, bulk_modulus):
    """B = V d²E/dV² at the crystal's own volume, by finite differences, for five atoms."""
    step = 1e-4 * a0**3
    volumes = a0**3 + step * np.array([-1, 0, 1])
    energy = 5 * strain_energy(np.cbrt(volumes), a0, bulk_modulus)
    curvature = (energy[0] - 2 * energy[1] + energy[2]) / step**2
    assert a0**3 * curvature * GPA == pytest.approx(bulk_modulus, rel=1e-3)
    assert energy[1] == pytest.approx(0, abs=1e-20)


def test_strontium_titanate_stretched_by_a_hundredth():
    # 9/2 · 160 GPa · (3.9 Å)³ · 10⁻⁴ = 26.66 meV in the cell of five atoms.
    energy = strain_energy(np.array(3.9 * 1.01), np.array(3.9), 160.0)
    assert energy == pytest.approx(0.0266 / 5, rel=0.01)


def test_rewards_regrets_and_components_are_those_of_a_slow_loop(crystals, table):
    reward = Perov5DftReward(bulk_modulus=90.0)
    pairs = np.array(list(itertools.product(range(60), range(60))))
    paid, info = reward.on_finish(table, *put_on(table, pairs[:, 0], pairs[:, 1]))
    slow = np.array([slow_energy(crystals, *pair, 90.0) for pair in pairs.tolist()])
    known = ~np.isnan(slow)
    assert known.sum() == 60 * 54
    assert np.array_equal(info["labelled"], known)
    assert np.allclose(paid[known], -slow[known], atol=1e-12)
    assert np.allclose((info["heat"] + info["strain"])[known], slow[known])
    assert np.isnan(info["heat"][~known]).all()
    assert np.isfinite(info["strain"]).all()
    best = -np.nanmin(slow.reshape(60, 60), axis=1)
    assert np.allclose(reward.best(table, np.arange(60)), best)
    assert np.allclose(info["regret"], best[pairs[:, 0]] - paid)
    assert (info["regret"][known] >= 0).all()
    # Somewhere on every skeleton nothing is left to gain, exactly.
    assert (info["regret"].reshape(60, 60).min(axis=1) == 0).all()


def test_without_stiffness_the_most_stable_crystal_is_best_everywhere(crystals, table):
    best = Perov5DftReward(bulk_modulus=0).best(table, np.arange(60))
    assert np.array_equal(best, np.full(60, -np.nanmin(crystals.labels["heat_all"])))


def test_missing_labels_follow_the_policy(crystals, table):
    crystal, elements = put_on(table, [3, 3], [1, 10])
    worst = -np.nanmax(crystals.labels["heat_all"])
    paid, info = Perov5DftReward().on_finish(table, crystal, elements)
    assert info["labelled"].tolist() == [1, 0]
    assert paid[1] == worst
    assert info["regret"][1] == Perov5DftReward().best(table, crystal)[1] - worst
    paid, info = Perov5DftReward(missing="nan").on_finish(table, crystal, elements)
    assert np.isnan(paid).tolist() == np.isnan(info["regret"]).tolist() == [False, True]
    formula, identifier = crystals.formula(10), crystals.ids[3]
    message = f"No 'heat_all' is known of {formula} on skeleton '{identifier}'.*perov_5_train.csv"
    with pytest.raises(RewardError, match=message):
        Perov5DftReward(missing="error").on_finish(table, crystal, elements)
    with pytest.raises(UnknownNameError, match=r"missing labels 'wurst'\. Did you mean 'worst'"):
        Perov5DftReward(missing="wurst")


def test_elements_are_taken_as_they_stand_on_the_sites(crystals):
    """A crystal with one odd anion on X1; the same elements in other orders are no crystals."""
    numbers = crystals.atomic_numbers.copy()
    numbers[1] = [38, 22, 9, 8, 8]  # Sr Ti F O O
    odd = dataclasses.replace(crystals, atomic_numbers=numbers)
    table = EpisodeTable(odd)
    orders = np.array(sorted(set(itertools.permutations(numbers[1].tolist()))))
    paid, info = Perov5DftReward(missing="nan").on_finish(
        table, np.ones(len(orders), int), table.vocabulary.encode(orders)
    )
    there = (orders == numbers[1]).all(axis=1)
    assert len(orders) == 60
    assert np.array_equal(info["labelled"], there)
    assert paid[there] == -odd.labels["heat_all"][1]
    assert np.isnan(info["strain"][~there]).all()
    with pytest.raises(RewardError, match=r"labelled holds no crystal .* another policy"):
        Perov5DftReward(missing="error").on_finish(
            table, np.array([1]), table.vocabulary.encode(orders[~there][:1])
        )


def test_the_gap_reward_falls_off_as_a_gaussian_of_one_electronvolt(crystals, table):
    gap = crystals.labels["ind_gap"]
    rows = np.arange(60)
    paid, info = Perov5GapReward(target=2.0).on_finish(table, *put_on(table, rows[::-1], rows))
    known = np.isfinite(gap)
    nearness = np.exp(-((gap - 2.0) ** 2))
    assert np.allclose(paid[known], nearness[known])
    assert np.allclose(paid[~known], np.nanmin(nearness))
    assert np.array_equal(info["gap"], gap, equal_nan=True)
    assert np.allclose(info["regret"], np.nanmax(nearness) - paid)
    assert info["regret"].min() == 0
    direct, told = Perov5GapReward(target=2.0, gap="direct").on_finish(
        table, *put_on(table, rows, rows)
    )
    assert np.allclose(told["gap"][known], gap[known] + 0.5)
    assert not np.allclose(direct, paid)


def test_bad_parameters_are_told():
    for strange in (["direct"], {"gap": 1}):
        with pytest.raises(UnknownNameError, match="band gap"):
            Perov5GapReward(gap=strange)
    for wrong in (np.nan, np.inf, "stiff", True, None):
        with pytest.raises(CrystalGymError, match=r"A bulk modulus \(GPa\) is a finite number"):
            Perov5DftReward(bulk_modulus=wrong)
        with pytest.raises(CrystalGymError, match=r"A wanted band gap \(eV\) is a finite number"):
            Perov5GapReward(target=wrong)
    with pytest.raises(CrystalGymError, match="at least 0 GPa"):
        Perov5DftReward(bulk_modulus=-1)
    with pytest.raises(CrystalGymError, match="at least 0 eV"):
        Perov5GapReward(target=-1)
    with pytest.raises(UnknownNameError, match="band gap 'optical'"):
        Perov5GapReward(gap="optical")


def test_coverage_is_told_once_where_it_is_incomplete(crystals, caplog):
    table = EpisodeTable(crystals)
    with caplog.at_level(logging.WARNING):
        reward = Perov5DftReward()
        reward.prepare(table)
        reward.prepare(table)
        Perov5DftReward().on_finish(table, *put_on(table, [0], [1]))
    assert reward.coverage(table) == 0.9
    (record,) = caplog.records
    assert "heat_all is known for 54 of 60 crystals (90 %)" in record.getMessage()
    assert "crystal-gym prepare perov-5 --labels" in record.getMessage()
    caplog.clear()
    known = EpisodeTable(crystals.take(np.flatnonzero(np.isfinite(crystals.labels["heat_all"]))))
    assert Perov5DftReward().coverage(known) == 1
    assert not caplog.records


def test_collections_without_labels_or_with_other_cells_are_refused_at_once(toy, crystals):
    for reward in ("perov5-dft", "perov5-gap"):
        with pytest.raises(CrystalGymError, match=r"'toy' has other cells\. Use .*'perov-5'"):
            CrystalSkeletonEnv(collection=toy, reward=reward)
        with pytest.raises(MissingDataError, match=r"known of any crystal of 'goldschmidt'\."):
            CrystalSkeletonVectorEnv(2, reward={"match": 1, reward: 1})
    unlabelled = dataclasses.replace(crystals, name="perov-5-by-composition", labels={})
    with pytest.raises(MissingDataError, match=r"perov_5_train\.csv.*set CRYSTAL_GYM_DATA"):
        CrystalSkeletonEnv(collection=unlabelled, reward="perov5-dft")
    shifted = crystals.parameters + np.eye(6)[2] / 10
    with pytest.raises(CrystalGymError, match="other cells"):
        CrystalSkeletonEnv(
            collection=dataclasses.replace(crystals, parameters=shifted), reward="perov5-dft"
        )


def test_both_environments_pay_and_tell_the_same(crystals):
    settings = {"collection": crystals, "split": "all", "start_site": 0, "reward": "perov5-dft"}
    single, vector = CrystalSkeletonEnv(**settings), CrystalSkeletonVectorEnv(60, **settings)
    vector.reset(seed=0, options={"crystal": np.arange(60)})
    for _ in range(5):
        _, rewards, ends, _, infos = vector.step(vector.expert_action())
    assert ends.all()
    known = infos["labelled"] == 1
    assert known.sum() == 54
    assert np.array_equal(rewards[known], -crystals.labels["heat_all"][known])
    assert (infos["strain"] == 0).all()
    single.reset(seed=0, options={"crystal": 7})
    for _ in range(5):
        _, reward, _, _, info = single.step(single.expert_action())
    assert reward == rewards[7]
    assert {"heat", "strain", "labelled", "regret"} <= set(info)
    for key in set(info) - {"action_mask"}:
        assert info[key] == infos[key][7]
        assert f"| `{key}` " in CrystalSkeletonEnv.__doc__


def test_named_rewards_with_parameters_live_in_json_and_pickles(crystals, table):
    text = json.dumps({"perov5-gap": {"target": 1.5, "gap": "direct"}})
    reward = pickle.loads(pickle.dumps(resolve_reward(json.loads(text))))  # noqa: S301 - our own
    assert isinstance(reward, Perov5GapReward)
    assert (reward.target, reward.label) == (1.5, "dir_gap")
    made = resolve_reward({"perov5-dft": {"missing": "nan", "weight": 1, "bulk_modulus": 80}})
    assert isinstance(made, Perov5DftReward)
    assert (made.missing, made.bulk_modulus) == ("nan", 80)


@pytest.fixture(scope="module")
def labelled_perov5(perov5):
    """The few real crystals with the labels that stand in the val and test files."""
    rows = {str(name): row for row, name in enumerate(perov5.ids)}
    labels = {name: np.full(len(perov5), np.nan) for name in source.LABEL_NAMES}
    for split in ("val", "test"):
        path = find_local(source.LABELS[split], "perov_5")
        for line in csv.DictReader(io.StringIO(source._verified_csv(path))):
            if line["material_id"] in rows:
                for name in source.LABEL_NAMES:
                    labels[name][rows[line["material_id"]]] = float(line[name])
    return dataclasses.replace(perov5, labels=labels)


def test_of_crystals_with_the_same_elements_the_labelled_one_is_found(crystals):
    heat = crystals.labels["heat_all"]
    few = crystals.take([0, 1, 1, 2])
    few.labels["heat_all"][:] = [heat[1], np.nan, 0.5, heat[2]]
    few = dataclasses.replace(few, ids=np.array(list("abcd")))
    table = EpisodeTable(few)
    paid, told = Perov5DftReward().on_finish(table, np.array([2]), table.true_elements[[1]])
    assert paid == [-0.5]
    assert told["labelled"] == [1]
    few.labels["heat_all"][1] = 0.7
    with pytest.raises(CrystalGymError, match=r"twice, by the crystals 'b' and 'c'.*Keep one"):
        Perov5DftReward().prepare(EpisodeTable(few))


def test_rewards_name_their_labels_and_collections_tell_when_they_change(crystals):
    both = resolve_reward({"perov5-dft": 1, "perov5-gap": 0.5, "match": 1})
    assert both.labels == ("heat_all", "ind_gap")
    assert resolve_reward("match").labels == ()
    assert crystals.labels_fingerprint(()) is None
    before = {names: crystals.labels_fingerprint(names) for names in (both.labels, ("dir_gap",))}
    heat = crystals.labels["heat_all"].copy()
    heat[0] = 1.0  # was not known
    changed = dataclasses.replace(crystals, labels=crystals.labels | {"heat_all": heat})
    assert changed.fingerprint() == crystals.fingerprint()
    assert changed.labels_fingerprint(both.labels) != before[both.labels]
    assert changed.labels_fingerprint(("dir_gap",)) == before["dir_gap",]


@pytest.mark.real
def test_real_crystals_earn_minus_their_heat_and_no_strain(labelled_perov5):
    env = gym.make_vec(
        "CrystalSkeleton-v0",
        num_envs=400,
        collection=labelled_perov5,
        split="all",
        source=0,
        reward={"perov5-dft": {"missing": "error"}},
    )
    env.reset(seed=0, options={"crystal": np.arange(200, 600)})
    for _ in range(5):
        _, rewards, _, _, infos = env.step(env.unwrapped.expert_action())
    assert np.array_equal(rewards, -labelled_perov5.labels["heat_all"][200:])
    assert (infos["strain"] == 0).all()
    assert (infos["labelled"] == 1).all()
    assert (infos["regret"] >= 0).all()
    assert 1 < infos["regret"].mean() < 2.5


@pytest.mark.real
def test_real_train_crystals_are_missing_without_their_file_and_gaps_are_as_published(
    labelled_perov5,
):
    table = EpisodeTable(labelled_perov5)
    train = np.arange(200)
    paid, info = Perov5DftReward().on_finish(table, train, table.true_elements[train])
    assert not info["labelled"].any()
    assert (paid == -np.nanmax(labelled_perov5.labels["heat_all"])).all()
    assert Perov5DftReward().coverage(table) == pytest.approx(2 / 3)
    # No indirect gap is wider than the direct one, and nearly all of these crystals are metals.
    indirect, direct = (labelled_perov5.labels[name][200:] for name in ("ind_gap", "dir_gap"))
    assert (indirect <= direct).all()
    assert 0 < (indirect > 0).mean() < 0.1
