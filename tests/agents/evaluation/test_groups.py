"""Metrics by group of sites."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_agents.evaluation.evaluate import evaluate
from crystal_agents.evaluation.groups import element_classes, group_labels, metrics_by_group
from crystal_agents.evaluation.rows import ExtraMetrics
from crystal_gym import load_collection
from crystal_gym.errors import UnknownNameError


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("SrTiO3", {"Sr": "cation", "Ti": "cation", "O": "anion"}),
        ("LiPO3", {"Li": "cation", "P": "cation", "O": "anion"}),
        ("Na3P", {"Na": "cation", "P": "anion"}),
        ("NiAl", {"Ni": "metal", "Al": "metal"}),
        ("He2", {"He": "undetermined"}),
    ],
)
def test_classes_of_the_elements_of_known_compounds(formula, expected):
    assert element_classes(formula) == expected


def test_labels_of_the_sites_of_a_perovskite():
    goldschmidt = load_collection("goldschmidt")
    row = next(r for r in range(len(goldschmidt)) if goldschmidt.formula(r) == "SrTiO3")
    labels = {
        name: group_labels(goldschmidt, np.array([row]), name)[0].tolist()
        for name in ("element", "class", "n_sites", "crystal_system")
    }
    assert labels == {
        "element": ["Sr", "Ti", "O", "O", "O"],
        "class": ["cation"] * 2 + ["anion"] * 3,
        "n_sites": ["5"] * 5,
        "crystal_system": ["cubic"] * 5,
    }


def test_an_unknown_grouping_is_refused(toy):
    with pytest.raises(UnknownNameError, match="grouping 'color'"):
        evaluate({}, toy, "test", extra=ExtraMetrics(by=("color",)), progress=False)


@given(seed=st.integers(0, 10_000), n_groups=st.integers(1, 4))
def test_group_means_weighted_by_their_sites_are_the_mean_over_all_sites(seed, n_groups):
    rng = np.random.default_rng(seed)
    values = rng.random((6, 5))
    labels = rng.choice([f"g{k}" for k in range(n_groups)], (6, 5)).astype(object)
    padding = np.arange(5) >= rng.integers(1, 6, 6)[:, None]
    values[padding], labels[padding] = np.nan, ""
    groups = metrics_by_group({"accuracy": values}, labels.astype(str))
    assert set(groups) == set(labels[~padding])
    total = sum(g.metrics["accuracy"].mean * g.n_sites for g in groups.values())
    assert total == pytest.approx(np.nansum(values))
    assert sum(g.n_sites for g in groups.values()) == (~padding).sum()
    for label, group in groups.items():
        metric = group.metrics["accuracy"]
        assert group.n_crystals == (labels == label).any(1).sum()
        assert metric.low <= metric.mean + 1e-12
        assert metric.high >= metric.mean - 1e-12


def test_numbers_of_sites_are_in_numerical_order(toy):
    report = evaluate({}, toy, "all", extra=ExtraMetrics(by=("n_sites",)), progress=False)
    groups = report.rows["ground truth"].groups["n_sites"]
    assert list(groups) == ["1", "2", "3", "4", "5", "6"]
    assert all(group.metrics["accuracy"].mean == 1 for group in groups.values())
    assert [group.n_crystals for group in groups.values()] == [2] * 6
