"""Conditional policies: standardized targets, guidance, and requests in all entry points."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from small_policies import SETTINGS, small_policy

from crystal_agents.policies.fixed_target import fix_target
from crystal_agents.policies.policy import PolicyConfig, PolicyScorer, SkeletonPolicy, load_policy
from crystal_agents.policies.targets import PolicyTargets
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.episode import EpisodeTable, start
from crystal_gym.errors import CrystalGymError, DamagedFileError, TargetRangeWarning

TARGETS = PolicyTargets(("heat", "gap"), (1.0, 0.5), (2.0, 0.5), (-3.0, 0.0), (5.0, 4.0))


@pytest.fixture
def labeled(toy):
    rows = np.arange(len(toy))
    return dataclasses.replace(toy, labels={"heat": rows / 3 - 1.0, "gap": rows / 4})


@pytest.fixture
def policy(labeled):
    torch.manual_seed(0)
    symbols = labeled.vocabulary.symbols
    config = PolicyConfig("egnn", symbols, 6, SETTINGS, targets=TARGETS.as_record())
    return SkeletonPolicy(config).eval()


def first_state(table, crystals=(4, 10)):
    crystals = np.array(crystals)
    return start(table, crystals, table.breadth_first(crystals, np.zeros(len(crystals), np.int64)))


@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=20),
)
def test_standardized_training_labels_have_mean_0_and_deviation_1(values):
    labels = np.array(values)[:, None]
    targets = PolicyTargets.from_labels(["heat"], labels)
    standardized = targets.standardize(labels)
    assert abs(standardized.mean()) < 1e-2
    spread = standardized.std()
    assert spread == pytest.approx(1, abs=1e-3) or np.ptp(labels) < 1e-3
    assert PolicyTargets.from_record(targets.as_record()) == targets


def test_values_by_name_equal_arrays_in_the_order_of_the_names():
    by_name = TARGETS.standardize({"gap": 1.0, "heat": 3.0})
    np.testing.assert_array_equal(by_name, TARGETS.standardize(np.array([3.0, 1.0])))
    np.testing.assert_array_equal(by_name, [1.0, 1.0])
    np.testing.assert_array_equal(TARGETS.standardize({"heat": 3.0}), [1.0, np.nan])


def test_values_outside_the_training_labels_are_errors_or_moved_to_the_ends():
    with pytest.raises(CrystalGymError, match=r"Expected heat from -3 to 5, .* got 9"):
        TARGETS.standardize({"heat": 9.0})
    np.testing.assert_array_equal(TARGETS.standardize(np.array([9.0, -1.0]), clip=True), [2, -1])
    with pytest.raises(CrystalGymError, match=r"Expected targets among heat, gap, .* got 'mass'"):
        TARGETS.standardize({"mass": 1.0})
    with pytest.raises(CrystalGymError, match="Expected one value for each of heat, gap"):
        TARGETS.standardize(np.zeros(3))


@given(st.floats(-50, 50), st.floats(-50, 50))
def test_targets_of_episodes_are_moved_into_the_range_with_a_warning(heat, gap):
    values = np.array([[heat, gap], [0.0, np.nan]])
    outside = not (-3 <= heat <= 5 and 0 <= gap <= 4)
    near = min(abs(heat + 3), abs(heat - 5), abs(gap), abs(gap - 4)) < 1e-3
    assume(not near)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        standardized = TARGETS.standardize_episodes(values)
    moved = [[np.clip(heat, -3, 5), np.clip(gap, 0, 4)], [0.0, np.nan]]
    np.testing.assert_array_equal(standardized, TARGETS.standardize(np.array(moved)))
    assert [item.category for item in caught] == [TargetRangeWarning] * outside


def test_requests_outside_the_training_labels_are_reported_in_all_entry_points(policy, labeled):
    table = EpisodeTable(labeled)
    message = r"Expected heat from -3 to 5, the range of the training labels, got 9"
    with pytest.raises(CrystalGymError, match=message):
        PolicyScorer(policy, table, {"heat": 9.0})
    with pytest.raises(CrystalGymError, match=message):
        PolicyScorer(policy, table, np.array([[9.0, np.nan]] * 12))
    with pytest.raises(CrystalGymError, match=message):
        policy.fill(labeled.skeleton(5), target={"heat": 9.0})
    with pytest.raises(CrystalGymError, match=r"Expected heat from -3 to 5.* got inf"):
        policy.fill(labeled.skeleton(5), target={"heat": np.inf})
    wide = dataclasses.replace(labeled, labels={**labeled.labels, "heat": np.arange(12.0)})
    env = CrystalSkeletonEnv(collection=wide, split="all", target=["heat", "gap"])
    observation, _ = env.reset(options={"crystal": 9, "start_site": 0})
    with pytest.warns(TargetRangeWarning, match=f"{message}.*nearest end of the range"):
        moved = policy.probabilities(observation)
    observation["target"][0] = 5.0
    np.testing.assert_array_equal(moved, policy.probabilities(observation))
    state = first_state(env.table, [9])
    with pytest.warns(TargetRangeWarning, match=message):
        logits = PolicyScorer(policy, env.table)(state)
    at_end = PolicyScorer(policy, env.table, {"heat": 5.0, "gap": 2.25})(state)
    np.testing.assert_allclose(logits, at_end, rtol=1e-5)


def test_labels_that_no_training_crystal_has_are_an_error():
    with pytest.raises(CrystalGymError, match="Expected training crystals with the label 'gap'"):
        PolicyTargets.from_labels(["heat", "gap"], np.array([[1.0, np.nan], [2.0, np.nan]]))


def test_no_request_gives_the_unconditional_logits(policy, labeled):
    table = EpisodeTable(labeled)
    state = first_state(table)
    np.testing.assert_array_equal(
        PolicyScorer(policy, table)(state), PolicyScorer(policy, table, {})(state)
    )
    conditional = PolicyScorer(policy, table, {"heat": 4.0})(state)
    assert np.abs(conditional - PolicyScorer(policy, table)(state)).max() > 1e-4


@pytest.mark.parametrize("guidance", [-1.0, 0.5, 2.0])
def test_guidance_extrapolates_from_unconditional_to_conditional_logits(policy, labeled, guidance):
    table = EpisodeTable(labeled)
    state = first_state(table)
    request = {"heat": 4.0, "gap": 1.0}
    unconditional = PolicyScorer(policy, table)(state)
    conditional = PolicyScorer(policy, table, request)(state)
    guided = PolicyScorer(policy, table, request, guidance)(state)
    expected = (1 + guidance) * conditional - guidance * unconditional
    np.testing.assert_allclose(guided, expected, rtol=1e-4, atol=1e-5)


def test_targets_of_episodes_are_requests_of_each_crystal(policy, labeled):
    table = EpisodeTable(labeled, target=["heat", "gap"])
    state = first_state(table)
    fixed = PolicyScorer(policy, table, table.targets)(state)
    np.testing.assert_allclose(PolicyScorer(policy, table)(state), fixed, rtol=1e-5, atol=1e-6)
    one_by_one = [
        PolicyScorer(policy, table, {"heat": heat, "gap": gap})(first_state(table, [row]))[0]
        for row, (heat, gap) in zip((4, 10), table.targets[[4, 10]].tolist(), strict=True)
    ]
    np.testing.assert_allclose(fixed, one_by_one, rtol=1e-4, atol=1e-5)


def test_observed_targets_are_requests(policy, labeled):
    env = CrystalSkeletonEnv(collection=labeled, split="all", target=["heat", "gap"])
    observation, _ = env.reset(options={"crystal": 5, "start_site": 0, "target": [2.0, 1.0]})
    state = first_state(env.table, [5])
    for guidance in (0.0, 1.5):
        logits = PolicyScorer(policy, env.table, {"heat": 2.0, "gap": 1.0}, guidance)(state)
        probabilities = torch.as_tensor(logits[0]).softmax(-1)
        np.testing.assert_allclose(
            policy.probabilities(observation, guidance), probabilities, rtol=1e-4
        )
    del observation["target"]
    unconditional = torch.as_tensor(PolicyScorer(policy, env.table, {})(state)[0]).softmax(-1)
    np.testing.assert_allclose(policy.probabilities(observation), unconditional, rtol=1e-4)


def test_fill_has_the_probabilities_of_the_request(policy, labeled):
    skeleton = labeled.skeleton(5)
    free, asked, guided = (
        policy.fill(skeleton, samples=200, target=target, guidance=guidance)
        for target, guidance in ((None, 0.0), ({"heat": 4.0}, 0.0), ({"heat": 4.0}, 3.0))
    )
    log_probabilities = [
        {filling.formula: filling.log_probability for filling in fillings}
        for fillings in (free, asked, guided)
    ]
    assert log_probabilities[0] != log_probabilities[1] != log_probabilities[2]


@pytest.mark.parametrize("network", ["egnn", "egnn-indexed"])
@pytest.mark.parametrize("crystal_layers", [0, 2])
def test_a_fixed_target_gives_the_same_probabilities(labeled, tmp_path, network, crystal_layers):
    torch.manual_seed(0)
    settings = {**SETTINGS, "crystal_layers": crystal_layers}
    symbols = labeled.vocabulary.symbols
    config = PolicyConfig(network, symbols, 6, settings, targets=TARGETS.as_record())
    policy = SkeletonPolicy(config).eval()
    table = EpisodeTable(labeled)
    state = first_state(table)
    for target in ({"heat": 4.0}, {"gap": 2.0, "heat": -3.0}, {}):
        fixed = fix_target(policy, target)
        expected = PolicyScorer(policy, table, target)(state)
        np.testing.assert_allclose(
            PolicyScorer(fixed, table)(state), expected, rtol=1e-4, atol=1e-5
        )
        loaded = load_policy(fixed.save(tmp_path))
        assert loaded.targets is None
        assert loaded.config.training == {"target": target}
    with pytest.raises(CrystalGymError, match="Expected heat from -3 to 5"):
        fix_target(policy, {"heat": 9.0})
    with pytest.raises(CrystalGymError, match="Expected a conditional policy"):
        fix_target(fixed, {"heat": 1.0})
    with pytest.raises(CrystalGymError, match="Expected a conditional network"):
        fixed.encoder.weights_for_target(torch.zeros(2))


def test_a_saved_policy_has_its_targets(policy, labeled, tmp_path):
    loaded = load_policy(policy.save(tmp_path))
    assert loaded.targets == TARGETS
    table = EpisodeTable(labeled)
    state = first_state(table)
    np.testing.assert_array_equal(
        PolicyScorer(loaded, table, {"heat": 1.5})(state),
        PolicyScorer(policy, table, {"heat": 1.5})(state),
    )


def test_damaged_targets_in_a_file_are_an_error(policy, tmp_path):
    policy.save(tmp_path)
    file = tmp_path / "policy.json"
    file.write_text(file.read_text().replace('"deviation"', '"width"'))
    with pytest.raises(DamagedFileError, match="expected names, mean, deviation, low and high"):
        load_policy(tmp_path)


def test_a_request_needs_a_conditional_policy(labeled):
    policy = small_policy(labeled)
    with pytest.raises(CrystalGymError, match="Expected a conditional policy"):
        PolicyScorer(policy, EpisodeTable(labeled), {"heat": 1.0})
    with pytest.raises(CrystalGymError, match="Expected a conditional policy"):
        policy.fill(labeled.skeleton(5), target={"heat": 1.0})
    batch = PolicyScorer(policy, EpisodeTable(labeled)).store.batch()
    geometry = policy.encoder.geometry(batch)
    with pytest.raises(CrystalGymError, match="Expected a conditional network"):
        policy.encoder.condition(batch, geometry, torch.zeros(12, 1))
