"""Rewards for water splitting and photocorrosion shields: criteria, margins, published targets."""

import csv
import dataclasses
import gzip
import json

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_gym.collections import load_collection
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.collections.perov5_labels import read_labels
from crystal_gym.crystals.elements import atomic_number
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.episode import EpisodeTable, finished
from crystal_gym.errors import CrystalGymError, MissingDataError, UnknownNameError
from crystal_gym.rewards import (
    Perov5PhotocorrosionShieldReward,
    Perov5WaterSplittingReward,
    resolve_reward,
)
from crystal_gym.rewards.perov5_water_splitting import MARGINS, Criterion
from crystal_gym.utils import settings
from crystal_gym.utils.files import RemoteFile, find_local, sha256

TARGETS = RemoteFile(
    name="jain2013_good_candidates.csv",
    url="",
    checksum="7004be67adee2d56339a18bbb2393279cc27534bfac75cd6b7275aa60083e964",
)
ELEMENTS = RemoteFile(
    name="perov5_labels.csv.gz",
    url="",
    checksum="24f24a088477d7b30f9d38f2ab7c88a85d23319a87eeedea5f65401e90b9dfc1",
)
NAMES = ("heat_all", "heat_all_corrected", "dir_gap", "ind_gap", "vb_dir", "cb_dir", "vb_ind",
         "cb_ind")  # fmt: skip
# heat, corrected heat, gaps and edges of a crystal that meets the criteria by its indirect gap
SPLITTER = (0.2, 0.0, 3.5, 3.0, 7.7, 4.2, 7.44, 4.44)
SHIELD = (0.3, 0.2, 3.0, 2.6, 7.01, 3.9, 6.2, 4.2)
ALL = ("perov5-water-splitting", "perov5-water-splitting-shaped", "perov5-photocorrosion-shield",
       "perov5-photocorrosion-shield-shaped")  # fmt: skip


def with_labels(rows):
    """Return the table of ABX3 crystals with the labels ``NAMES``."""
    rows = np.array(rows, float)
    collection = load_collection("goldschmidt", progress=False).take(np.arange(len(rows)))
    labels = dict(zip(NAMES, rows.T, strict=True))
    return EpisodeTable(dataclasses.replace(collection, name="labeled", labels=labels))


def scores(reward, table):
    """Return the rewards and components of the true crystals."""
    rows = np.arange(len(table.collection))
    return reward.on_finish(table, finished(table, rows, table.true_elements))


def changed(values, **changes):
    return [changes.get(name, value) for name, value in zip(NAMES, values, strict=True)]


def test_water_splitting_needs_all_criteria_of_one_gap():
    cases = [
        (SPLITTER, 1),
        (changed(SPLITTER, heat_all=0.2000001), 0),
        (changed(SPLITTER, heat_all_corrected=3.0), 1),
        (changed(SPLITTER, ind_gap=3.0000001), 0),
        (changed(SPLITTER, ind_gap=1.5), 1),
        (changed(SPLITTER, ind_gap=1.4999999), 0),
        (changed(SPLITTER, vb_ind=5.73), 1),
        (changed(SPLITTER, vb_ind=5.7299999), 0),
        (changed(SPLITTER, cb_ind=4.5), 1),
        (changed(SPLITTER, cb_ind=4.5000001), 0),
        # The direct gap meets the criteria and the indirect one does not.
        (changed(SPLITTER, dir_gap=2.0, ind_gap=1.0), 1),
        # The gap is that of one kind and the edges are those of the other.
        (changed(SPLITTER, dir_gap=2.0, cb_dir=4.6, ind_gap=1.0), 0),
    ]
    table = with_labels([values for values, _ in cases])
    rewards, info = scores(Perov5WaterSplittingReward(), table)
    assert rewards.tolist() == info["criteria_met"].tolist() == [met for _, met in cases]
    assert (info["labeled"] == 1).all()
    assert np.array_equal(info["regret"], 1 - rewards)
    corrected, _ = scores(Perov5WaterSplittingReward(heat="corrected"), table)
    assert corrected[1:3].tolist() == [1, 0]


def test_shields_need_a_direct_gap_and_one_valence_band_edge():
    cases = [
        (SHIELD, 1),
        (changed(SHIELD, heat_all_corrected=0.2000001), 0),
        (changed(SHIELD, dir_gap=2.9999999), 0),
        (changed(SHIELD, dir_gap=7.0), 1),
        (changed(SHIELD, ind_gap=0.0), 1),
        (changed(SHIELD, vb_ind=6.1999999), 0),
        (changed(SHIELD, vb_ind=7.0), 1),
        (changed(SHIELD, vb_ind=7.0000001), 0),
        (changed(SHIELD, vb_ind=6.0, vb_dir=7.0), 1),
    ]
    table = with_labels([values for values, _ in cases])
    rewards, info = scores(Perov5PhotocorrosionShieldReward(), table)
    assert rewards.tolist() == info["criteria_met"].tolist() == [met for _, met in cases]
    original, _ = scores(Perov5PhotocorrosionShieldReward(heat="original"), table)
    assert not original.any()


def test_margins_are_the_distances_at_which_a_criterion_counts_zero():
    heat, gap, edge = MARGINS["heat"], MARGINS["gap"], MARGINS["edge"]
    cases = [
        (SPLITTER, 1),
        (changed(SPLITTER, heat_all=0.2 + heat / 2), 1 - 1 / 8),
        (changed(SPLITTER, heat_all=0.2 + heat), 3 / 4),
        (changed(SPLITTER, heat_all=0.2 + 3 * heat), 3 / 4),
        (changed(SPLITTER, vb_ind=5.73 - edge / 4, ind_gap=3 + gap / 4, dir_gap=9), 1 - 1 / 8),
        # The better kind of gap counts: three criteria of the direct gap.
        (changed(SPLITTER, ind_gap=0.0, vb_ind=0.0, cb_ind=9.0, dir_gap=3 + gap), 3 / 4),
        ((5, 5, 0, 0, 0, 9, 0, 9), 0),
    ]
    table = with_labels([values for values, _ in cases])
    rewards, info = scores(resolve_reward("perov5-water-splitting-shaped"), table)
    assert rewards == pytest.approx([value for _, value in cases], abs=1e-9)
    assert np.array_equal(info["criteria_met"] == 1, rewards == 1)
    assert np.allclose(info["regret"], 1 - rewards)
    rewards, _ = scores(Perov5WaterSplittingReward(margins={"heat": 2 * heat}), table)
    assert rewards[1] == pytest.approx(1 - 1 / 16)
    assert rewards[4] == pytest.approx(1 - 1 / 8)


value = st.floats(-1, 10, allow_nan=False)


@given(st.lists(st.tuples(*[value] * len(NAMES)), min_size=1, max_size=20), st.data())
def test_shaped_rewards_are_one_for_the_same_crystals(rows, data):
    table = with_labels([*rows, SPLITTER, SHIELD])
    margins = {name: data.draw(st.floats(0.1, 5)) for name in MARGINS}
    for kind in (Perov5WaterSplittingReward, Perov5PhotocorrosionShieldReward):
        binary, info = scores(kind(), table)
        shaped, shaped_info = scores(kind(margins=margins), table)
        wider, _ = scores(kind(margins={name: 2 * m for name, m in margins.items()}), table)
        assert ((shaped >= 0) & (shaped <= 1)).all()
        assert np.array_equal(shaped == 1, binary == 1)
        assert np.array_equal(info["criteria_met"], shaped_info["criteria_met"])
        assert (wider >= shaped).all()


@given(value, value, value)
def test_violation_is_the_distance_from_the_range(label, low, width):
    criterion = Criterion("gap", "gap", low, low + abs(width))
    violation = criterion.violation(np.array([label]))[0]
    nearest = min(max(label, low), low + abs(width))
    assert violation == pytest.approx(abs(label - nearest))
    assert (violation == 0) == (low <= label <= low + abs(width))


def test_crystals_without_one_of_the_labels_are_missing():
    table = with_labels([SPLITTER, changed(SPLITTER, cb_dir=np.nan), changed(SPLITTER, heat_all=9)])
    reward = Perov5WaterSplittingReward(missing="nan")
    rewards, info = scores(reward, table)
    for values in (rewards, info["criteria_met"], info["regret"]):
        assert np.isnan(values).tolist() == [False, True, False]
    assert info["labeled"].tolist() == [1, 0, 1]
    assert reward.coverage(table) == 2 / 3
    rewards, info = scores(resolve_reward("perov5-water-splitting-shaped"), table)
    assert rewards.tolist() == [1, 0.75, 0.75]
    assert info["regret"].tolist() == [0, 0.25, 0.25]


def test_invalid_parameters_and_collections_are_rejected():
    with pytest.raises(UnknownNameError, match=r"margin 'haet'\. Did you mean 'heat'"):
        Perov5WaterSplittingReward(margins={"haet": 1})
    for margin, message in ((0, "above 0, got 0"), (-1, "at least 0"), (np.nan, "finite number")):
        with pytest.raises(CrystalGymError, match=message):
            Perov5PhotocorrosionShieldReward(margins={"gap": margin})
    for margins in (1.0, "heat", ["heat"]):
        with pytest.raises(CrystalGymError, match="margins to be a mapping such as"):
            Perov5WaterSplittingReward(margins=margins)
    for kind in (Perov5WaterSplittingReward, Perov5PhotocorrosionShieldReward):
        with pytest.raises(UnknownNameError, match="heat of formation 'old'"):
            kind(heat="old")
        with pytest.raises(UnknownNameError, match="missing labels 'best'"):
            kind(missing="best")
    for name in ALL:
        with pytest.raises(MissingDataError, match="of 'goldschmidt', which are unknown for all"):
            CrystalSkeletonVectorEnv(2, reward=name)


def test_rewards_are_made_from_json_and_describe_themselves():
    spec = json.loads('{"perov5-water-splitting": {"margins": {"gap": 2}, "heat": "corrected"}}')
    reward = resolve_reward(spec)
    assert reward.margins == MARGINS | {"gap": 2}
    assert reward.labels == ("heat_all_corrected", *NAMES[2:3], "vb_dir", "cb_dir", "ind_gap",
                             "vb_ind", "cb_ind")  # fmt: skip
    assert "1.5 ≤ ind_gap ≤ 3 and vb_ind ≥ 5.73 and cb_ind ≤ 4.5" in reward.definition
    assert reward.definition.endswith("margins heat 1, gap 2, edge 1")
    assert "margins" not in resolve_reward("perov5-photocorrosion-shield").definition
    assert len({resolve_reward(name).definition for name in ALL}) == len(ALL)


def test_single_and_vector_environment_agree():
    table = with_labels([SPLITTER, SHIELD, changed(SPLITTER, heat_all=0.7)])
    for name in ALL:
        arguments = {
            "collection": table.collection,
            "split": "all",
            "start_site": 0,
            "reward": name,
        }
        vector = CrystalSkeletonVectorEnv(3, **arguments)
        single = gym.make("CrystalSkeleton-v0", **arguments)
        vector.reset(seed=0, options={"crystal": np.arange(3)})
        for _ in range(5):
            _, rewards, _, _, infos = vector.step(vector.expert_action())
        for row in range(3):
            single.reset(seed=0, options={"crystal": row})
            for _ in range(5):
                _, reward, _, _, info = single.step(single.unwrapped.expert_action())
            assert reward == rewards[row]
            for key in ("criteria_met", "labeled", "regret"):
                assert info[key] == infos[key][row]


@pytest.fixture(scope="module")
def all_of_perov5():
    """Return the elements and labels of all 18,928 crystals, with one cubic cell for all."""
    path = find_local(ELEMENTS, "perov_5")
    assert path, f"Expected {ELEMENTS.name} in a folder of {settings.DATA_VARIABLE}, got none."
    assert sha256(path) == ELEMENTS.checksum
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    n = len(rows)
    sites = ("A", "B", "X1", "X2", "X3")
    numbers = [[atomic_number(row[site]) for site in sites] for row in rows]
    collection = CrystalCollection(
        name="perov-5",
        ids=np.array([row["material_id"] for row in rows]),
        splits=np.array([row["split"] for row in rows]),
        n_sites=np.full(n, 5, np.int32),
        atomic_numbers=np.array(numbers, np.int16),
        parameters=np.tile([4.0, 4, 4, 90, 90, 90], (n, 1)),
        frac_coords=np.zeros((n, 5, 3)),
        n_edges=np.zeros(n, np.int32),
        flat_edges=np.zeros((0, 5), np.int16),
    )
    return EpisodeTable(dataclasses.replace(collection, labels=read_labels(collection)))


@pytest.mark.real
@pytest.mark.parametrize(
    ("task", "name", "heats", "count"),
    [
        ("water_splitting_20", "perov5-water-splitting", ("original", "corrected"), 20),
        ("photocorrosion_shield_8", "perov5-photocorrosion-shield", ("corrected",), 8),
    ],
)
def test_the_published_targets_are_exactly_the_crystals_that_meet_the_criteria(
    all_of_perov5, task, name, heats, count
):
    path = find_local(TARGETS, "perov_5")
    assert path, f"Expected {TARGETS.name} in a folder of {settings.DATA_VARIABLE}, got none."
    assert sha256(path) == TARGETS.checksum
    with path.open() as file:
        published = {row["material_id"] for row in csv.DictReader(file) if row["task"] == task}
    assert len(published) == count
    table = all_of_perov5
    for heat in heats:
        for margins in (None, MARGINS):
            reward = resolve_reward({name: {"heat": heat, "margins": margins}})
            rewards, info = scores(reward, table)
            found = set(table.collection.ids[rewards == 1].tolist())
            assert found == published
            assert np.array_equal(info["criteria_met"] == 1, rewards == 1)
            assert (info["labeled"] == 1).all()
            assert (info["regret"] == 1 - rewards).all()
            assert reward.coverage(table) == 1


@pytest.mark.real
def test_original_heats_give_six_of_the_eight_shields(all_of_perov5):
    corrected, _ = scores(resolve_reward("perov5-photocorrosion-shield"), all_of_perov5)
    spec = {"perov5-photocorrosion-shield": {"heat": "original"}}
    original, _ = scores(resolve_reward(spec), all_of_perov5)
    assert (original <= corrected).all()
    missing = np.flatnonzero(original < corrected)
    formulas = sorted(all_of_perov5.collection.formula(int(row)) for row in missing)
    assert formulas == ["RbTiFO2", "SrGaFO2"]
