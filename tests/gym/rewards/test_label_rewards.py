"""The rewards perov5-dft and perov5-gap: lookup, strain, missing labels and exact regret."""

import dataclasses
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
from crystal_gym.collections.perov5_labels import read_labels
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.episode import EpisodeTable, finished
from crystal_gym.errors import CrystalGymError, MissingDataError, UnknownNameError
from crystal_gym.rewards import Perov5DftReward, Perov5GapReward, RewardError, resolve_reward
from crystal_gym.rewards.label_lookup import HEATS, label_table
from crystal_gym.rewards.perov5_dft import strain_energy

GPA_PER_EV_PER_CUBIC_ANGSTROM = 160.21766208


@pytest.fixture(scope="module")
def crystals():
    """Return sixty cubic ABX3 crystals with random labels, six of them without."""
    rng = np.random.default_rng(0)
    collection = load_collection("goldschmidt", progress=False)
    collection = collection.take(rng.permutation(len(collection))[:60])
    heat, gap = rng.normal(1, 1, 60).round(2), rng.exponential(2, 60).round(2)
    heat[::10] = gap[::10] = np.nan
    labels = {"heat_all": heat, "ind_gap": gap, "dir_gap": gap + 0.5}
    return dataclasses.replace(collection, name="labeled", labels=labels)


@pytest.fixture(scope="module")
def table(crystals):
    return EpisodeTable(crystals, Vocabulary(tuple(reversed(crystals.vocabulary.symbols))), 7)


def assign_elements(table, skeletons, crystals):
    """Return rows of skeletons, and elements of other crystals to assign to them."""
    return np.asarray(skeletons), table.true_elements[crystals]


def energy_of_pair(collection, skeleton, crystal, bulk_modulus):
    """Return heat plus strain of one crystal on one skeleton, from the volume strain."""
    a0, a = collection.parameters[crystal, 0], collection.parameters[skeleton, 0]
    volume_strain = 3 * (a - a0) / a0
    energy = bulk_modulus / GPA_PER_EV_PER_CUBIC_ANGSTROM * a0**3 * volume_strain**2 / 2
    return collection.labels["heat_all"][crystal] + energy / 5


@given(st.floats(3, 6), st.floats(1, 400))
def test_strain_energy_has_the_given_bulk_modulus(a0, bulk_modulus):
    # B = V d²E/dV² at the volume of the crystal, by finite differences, for five atoms.
    step = 1e-4 * a0**3
    volumes = a0**3 + step * np.array([-1, 0, 1])
    energy = 5 * strain_energy(np.cbrt(volumes), a0, bulk_modulus)
    curvature = (energy[0] - 2 * energy[1] + energy[2]) / step**2
    found = a0**3 * curvature * GPA_PER_EV_PER_CUBIC_ANGSTROM
    assert found == pytest.approx(bulk_modulus, rel=1e-3)
    assert energy[1] == pytest.approx(0, abs=1e-20)


def test_strain_energy_of_strontium_titanate_at_one_percent():
    # 9/2 · 160 GPa · (3.9 Å)³ · 10⁻⁴ = 26.66 meV in the cell of five atoms.
    energy = strain_energy(np.array(3.9 * 1.01), np.array(3.9), 160.0)
    assert energy == pytest.approx(0.0266 / 5, rel=0.01)


def test_rewards_regrets_and_components_agree_with_a_loop_over_pairs(crystals, table):
    reward = Perov5DftReward(bulk_modulus=90.0)
    pairs = np.array(list(itertools.product(range(60), range(60))))
    rewards, info = reward.on_finish(
        table, finished(table, *assign_elements(table, pairs[:, 0], pairs[:, 1]))
    )
    energy = np.array([energy_of_pair(crystals, *pair, 90.0) for pair in pairs.tolist()])
    known = ~np.isnan(energy)
    assert known.sum() == 60 * 54
    assert np.array_equal(info["labeled"], known)
    assert np.allclose(rewards[known], -energy[known], atol=1e-12)
    assert np.allclose((info["heat"] + info["strain"])[known], energy[known])
    assert np.isnan(info["heat"][~known]).all()
    assert np.isfinite(info["strain"]).all()
    best = -np.nanmin(energy.reshape(60, 60), axis=1)
    assert np.allclose(reward.best(table, np.arange(60)), best)
    assert np.allclose(info["regret"], best[pairs[:, 0]] - rewards)
    assert (info["regret"][known] >= 0).all()
    # On every skeleton, the best crystal has a regret of exactly zero.
    assert (info["regret"].reshape(60, 60).min(axis=1) == 0).all()


def test_most_stable_crystal_is_best_everywhere_without_stiffness(crystals, table):
    best = Perov5DftReward(bulk_modulus=0).best(table, np.arange(60))
    assert np.array_equal(best, np.full(60, -np.nanmin(crystals.labels["heat_all"])))


def test_missing_labels_follow_the_policy(crystals, table):
    crystal, elements = assign_elements(table, [3, 3], [1, 10])
    worst = -np.nanmax(crystals.labels["heat_all"])
    rewards, info = Perov5DftReward().on_finish(table, finished(table, crystal, elements))
    assert info["labeled"].tolist() == [1, 0]
    assert rewards[1] == worst
    assert info["regret"][1] == Perov5DftReward().best(table, crystal)[1] - worst
    rewards, info = Perov5DftReward(missing="nan").on_finish(
        table, finished(table, crystal, elements)
    )
    assert np.isnan(rewards).tolist() == np.isnan(info["regret"]).tolist() == [False, True]
    formula, identifier = crystals.formula(10), crystals.ids[3]
    message = f"'heat_all' of {formula} on skeleton '{identifier}', got none.*ga_data_process_52e5"
    with pytest.raises(RewardError, match=message):
        Perov5DftReward(missing="error").on_finish(table, finished(table, crystal, elements))
    with pytest.raises(UnknownNameError, match=r"missing labels 'wurst'\. Did you mean 'worst'"):
        Perov5DftReward(missing="wurst")


def test_labels_depend_on_the_order_of_elements_on_the_sites(crystals):
    # A crystal with one odd anion on X1; no crystal has the same elements in another order.
    numbers = crystals.atomic_numbers.copy()
    numbers[1] = [38, 22, 9, 8, 8]  # Sr Ti F O O
    collection = dataclasses.replace(crystals, atomic_numbers=numbers)
    table = EpisodeTable(collection)
    orders = np.array(sorted(set(itertools.permutations(numbers[1].tolist()))))
    rewards, info = Perov5DftReward(missing="nan").on_finish(
        table, finished(table, np.ones(len(orders), int), table.vocabulary.encode(orders))
    )
    known = (orders == numbers[1]).all(axis=1)
    assert len(orders) == 60
    assert np.array_equal(info["labeled"], known)
    assert rewards[known] == -collection.labels["heat_all"][1]
    assert np.isnan(info["strain"][~known]).all()
    with pytest.raises(RewardError, match=r"labeled contains no crystal .* Use the policy"):
        Perov5DftReward(missing="error").on_finish(
            table, finished(table, np.array([1]), table.vocabulary.encode(orders[~known][:1]))
        )


def test_gap_reward_is_a_gaussian_around_the_target(crystals, table):
    gap = crystals.labels["ind_gap"]
    rows = np.arange(60)
    rewards, info = Perov5GapReward(target=2.0).on_finish(
        table, finished(table, *assign_elements(table, rows[::-1], rows))
    )
    known = np.isfinite(gap)
    similarity = np.exp(-((gap - 2.0) ** 2))
    assert np.allclose(rewards[known], similarity[known])
    assert np.allclose(rewards[~known], np.nanmin(similarity))
    assert np.array_equal(info["gap"], gap, equal_nan=True)
    assert np.allclose(info["regret"], np.nanmax(similarity) - rewards)
    assert info["regret"].min() == 0
    direct, info = Perov5GapReward(target=2.0, gap="direct").on_finish(
        table, finished(table, *assign_elements(table, rows, rows))
    )
    assert np.allclose(info["gap"][known], gap[known] + 0.5)
    assert not np.allclose(direct, rewards)


def test_invalid_parameters_are_rejected():
    for gap in (["direct"], {"gap": 1}):
        with pytest.raises(UnknownNameError, match="band gap"):
            Perov5GapReward(gap=gap)
    for value in (np.nan, np.inf, "stiff", True, None):
        with pytest.raises(CrystalGymError, match=r"bulk_modulus \(GPa\) to be a finite number"):
            Perov5DftReward(bulk_modulus=value)
        with pytest.raises(CrystalGymError, match=r"target \(eV\) to be a finite number"):
            Perov5GapReward(target=value)
    with pytest.raises(CrystalGymError, match=r"bulk_modulus \(GPa\) to be at least 0, got -1"):
        Perov5DftReward(bulk_modulus=-1)
    with pytest.raises(CrystalGymError, match=r"target \(eV\) to be at least 0, got -1"):
        Perov5GapReward(target=-1)
    with pytest.raises(UnknownNameError, match="band gap 'optical'"):
        Perov5GapReward(gap="optical")


def test_incomplete_coverage_is_logged_once(crystals, caplog):
    table = EpisodeTable(crystals)
    with caplog.at_level(logging.WARNING):
        reward = Perov5DftReward()
        reward.prepare(table)
        reward.prepare(table)
        Perov5DftReward().on_finish(table, finished(table, *assign_elements(table, [0], [1])))
    assert reward.coverage(table) == 0.9
    (record,) = caplog.records
    assert "'heat_all' is known for 54 of 60 crystals (90 %)" in record.getMessage()
    assert "crystal-gym prepare perov-5 --labels" in record.getMessage()
    caplog.clear()
    known = np.flatnonzero(np.isfinite(crystals.labels["heat_all"]))
    assert Perov5DftReward().coverage(EpisodeTable(crystals.take(known))) == 1
    assert not caplog.records


def test_collections_without_labels_or_with_other_cells_are_rejected(toy, crystals):
    for reward in ("perov5-dft", "perov5-gap"):
        with pytest.raises(CrystalGymError, match=r"'toy' has other cells\. Use .*'perov-5'"):
            CrystalSkeletonEnv(collection=toy, reward=reward)
        with pytest.raises(MissingDataError, match=r"of 'goldschmidt', which are unknown for all"):
            CrystalSkeletonVectorEnv(2, reward={"match": 1, reward: 1})
    unlabeled = dataclasses.replace(crystals, name="perov-5-by-composition", labels={})
    with pytest.raises(MissingDataError, match=r"ga_data_process_52e5a81\.p\..*set CRYSTAL"):
        CrystalSkeletonEnv(collection=unlabeled, reward="perov5-dft")
    shifted = crystals.parameters + np.eye(6)[2] / 10
    with pytest.raises(CrystalGymError, match="other cells"):
        CrystalSkeletonEnv(
            collection=dataclasses.replace(crystals, parameters=shifted), reward="perov5-dft"
        )


def test_single_and_vector_environment_agree(crystals):
    settings = {"collection": crystals, "split": "all", "start_site": 0, "reward": "perov5-dft"}
    single, vector = CrystalSkeletonEnv(**settings), CrystalSkeletonVectorEnv(60, **settings)
    vector.reset(seed=0, options={"crystal": np.arange(60)})
    for _ in range(5):
        _, rewards, terminations, _, infos = vector.step(vector.expert_action())
    assert terminations.all()
    known = infos["labeled"] == 1
    assert known.sum() == 54
    assert np.array_equal(rewards[known], -crystals.labels["heat_all"][known])
    assert (infos["strain"] == 0).all()
    single.reset(seed=0, options={"crystal": 7})
    for _ in range(5):
        _, reward, _, _, info = single.step(single.expert_action())
    assert reward == rewards[7]
    assert {"heat", "strain", "labeled", "regret"} <= set(info)
    for key in set(info) - {"action_mask"}:
        assert info[key] == infos[key][7]
        assert f"| `{key}` " in CrystalSkeletonEnv.__doc__


def test_rewards_with_parameters_can_be_given_as_json_and_pickled():
    text = json.dumps({"perov5-gap": {"target": 1.5, "gap": "direct"}})
    reward = pickle.loads(pickle.dumps(resolve_reward(json.loads(text))))  # noqa: S301 - made in this test
    assert isinstance(reward, Perov5GapReward)
    assert (reward.target, reward.labels) == (1.5, ("dir_gap",))
    reward = resolve_reward({"perov5-dft": {"missing": "nan", "weight": 1, "bulk_modulus": 80}})
    assert isinstance(reward, Perov5DftReward)
    assert (reward.missing, reward.bulk_modulus) == ("nan", 80)


@pytest.fixture(scope="module")
def labeled_perov5(perov5):
    """Return real crystals with their labels."""
    return dataclasses.replace(perov5, labels=read_labels(perov5))


def test_labeled_crystal_is_preferred_among_those_with_equal_elements(crystals):
    heat = crystals.labels["heat_all"]
    collection = crystals.take([0, 1, 1, 2])
    collection.labels["heat_all"][:] = [heat[1], np.nan, 0.5, heat[2]]
    collection = dataclasses.replace(collection, ids=np.array(list("abcd")))
    table = EpisodeTable(collection)
    rewards, info = Perov5DftReward().on_finish(
        table, finished(table, np.array([2]), table.true_elements[[1]])
    )
    assert rewards == [-0.5]
    assert info["labeled"] == [1]
    collection.labels["heat_all"][1] = 0.7
    with pytest.raises(CrystalGymError, match=r"got two, of the crystals 'b' and 'c'.*Keep one"):
        Perov5DftReward().prepare(EpisodeTable(collection))


def test_fingerprint_of_a_rewards_labels_changes_with_them(crystals):
    both = resolve_reward({"perov5-dft": 1, "perov5-gap": 0.5, "match": 1})
    assert both.labels == ("heat_all", "ind_gap")
    assert resolve_reward("match").labels == ()
    assert crystals.labels_fingerprint(()) is None
    before = {names: crystals.labels_fingerprint(names) for names in (both.labels, ("dir_gap",))}
    heat = crystals.labels["heat_all"].copy()
    heat[0] = 1.0  # was unknown
    changed = dataclasses.replace(crystals, labels=crystals.labels | {"heat_all": heat})
    assert changed.fingerprint() == crystals.fingerprint()
    assert changed.labels_fingerprint(both.labels) != before[both.labels]
    assert changed.labels_fingerprint(("dir_gap",)) == before["dir_gap",]


def test_corrected_heats_are_read_on_request(crystals):
    corrected = crystals.labels["heat_all"] - np.linspace(0, 0.5, 60)
    collection = dataclasses.replace(
        crystals, labels=crystals.labels | {"heat_all_corrected": corrected}
    )
    rows = np.flatnonzero(np.isfinite(corrected))
    # JSON values, as a recorded environment has them.
    spec = json.loads('{"perov5-dft": {"heat": "corrected"}}')
    env = CrystalSkeletonVectorEnv(len(rows), collection=collection, split="all", reward=spec)
    env.reset(seed=0, options={"crystal": rows})
    for _ in range(5):
        _, rewards, _, _, infos = env.step(env.expert_action())
    assert np.array_equal(rewards, -corrected[rows])
    assert np.array_equal(infos["heat"], corrected[rows])
    original = resolve_reward("perov5-dft")
    assert env.reward.labels == ("heat_all_corrected",)
    assert original.labels == ("heat_all",)
    fingerprints = [collection.labels_fingerprint(r.labels) for r in (env.reward, original)]
    assert fingerprints[0] != fingerprints[1]
    with pytest.raises(MissingDataError, match="'heat_all_corrected' of 'labeled'"):
        CrystalSkeletonEnv(collection=crystals, reward=spec)
    for heat in ("wrong", None, ["corrected"]):
        with pytest.raises(UnknownNameError, match="heat of formation"):
            Perov5DftReward(heat=heat)


def test_a_table_of_several_labels_knows_crystals_that_have_all_of_them(crystals):
    gap = crystals.labels["ind_gap"].copy()
    gap[1] = np.nan
    table = EpisodeTable(dataclasses.replace(crystals, labels=crystals.labels | {"ind_gap": gap}))
    labels = label_table(table, "heat_all", "ind_gap")
    assert labels.columns.keys() == {"heat_all", "ind_gap"}
    assert np.array_equal(labels.labeled, np.isfinite(crystals.labels["heat_all"] + gap))
    assert labels.coverage == 53 / 60
    assert labels.values is labels.columns["heat_all"]
    assert label_table(table, "heat_all", "ind_gap") is labels
    with pytest.raises(MissingDataError, match="labels 'volume' of 'labeled'"):
        label_table(table, "heat_all", "volume")


@pytest.mark.real
def test_rewards_of_real_crystals_are_minus_their_heat(labeled_perov5):
    for heat in HEATS:
        env = gym.make_vec(
            "CrystalSkeleton-v0",
            num_envs=600,
            collection=labeled_perov5,
            split="all",
            start_site=0,
            reward={"perov5-dft": {"missing": "error", "heat": heat}},
        )
        env.reset(seed=0, options={"crystal": np.arange(600)})
        for _ in range(5):
            _, rewards, _, _, infos = env.step(env.unwrapped.expert_action())
        assert np.array_equal(rewards, -labeled_perov5.labels[HEATS[heat]])
        assert (infos["strain"] == 0).all()
        assert (infos["labeled"] == 1).all()
        assert (infos["regret"] >= 0).all()
        assert 1 < infos["regret"].mean() < 2.5


@pytest.mark.real
def test_labels_of_real_crystals_are_complete(labeled_perov5, caplog):
    table = EpisodeTable(labeled_perov5)
    for reward in (Perov5DftReward(), Perov5GapReward(), Perov5GapReward(gap="direct")):
        reward.prepare(table)
        assert reward.coverage(table) == 1
    assert not caplog.records
    # An indirect gap is at most the direct gap, and nearly all of these crystals are metals.
    indirect, direct = (labeled_perov5.labels[name] for name in ("ind_gap", "dir_gap"))
    assert (indirect <= direct).all()
    assert 0 < (indirect > 0).mean() < 0.1
