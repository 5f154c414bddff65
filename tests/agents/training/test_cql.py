"""Training with CQL: learned values, the record of the training and invalid settings."""

import dataclasses

import numpy as np
import pytest
import torch
from q_values import q_values
from training_runs import SMALL_CQL, run_cloning, run_cql, same_weights

from crystal_agents import load_policy
from crystal_agents.evaluation.returns import greedy_returns
from crystal_agents.policies.policy import PolicyScorer
from crystal_agents.training.cql import CQLConfig
from crystal_datasets import best_episodes
from crystal_gym.episode import EpisodeTable
from crystal_gym.errors import CrystalGymError, DamagedFileError

# torchrl warns when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

LEARNING = dataclasses.replace(SMALL_CQL, epochs=8, skeletons=60, learning_rate=5e-3)


def test_cql_surpasses_behavior_policy_and_cloning_if_frequent_actions_are_not_the_best(
    toy, biased, oxygen, tmp_path
):
    table, rows = EpisodeTable(toy), np.arange(len(toy))

    def mean_return(policy):
        episodes = greedy_returns(PolicyScorer(policy, table), table, rows, oxygen, n_start_sites=5)
        return episodes.metrics["return"].mean()

    def cloning_return(folder, data):
        return mean_return(run_cloning(tmp_path / folder, data, LEARNING))

    cql = mean_return(run_cql(tmp_path / "cql", biased, CQLConfig(alpha=0.02, tau=0.1), LEARNING))
    all_episodes = cloning_return("all", biased)
    best_quarter = cloning_return("best", best_episodes(biased, 0.25))
    assert cql > biased.returns.mean() + 0.25
    assert cql > all_episodes + 0.25
    assert best_quarter > all_episodes + 0.1


def test_without_conservatism_and_with_discount_0_the_values_are_the_rewards(random, tmp_path):
    recipe = dataclasses.replace(SMALL_CQL, epochs=120, skeletons=60, learning_rate=1e-2)
    policy = run_cql(tmp_path, random, CQLConfig(alpha=0.0, gamma=0.0, unit_scale=False), recipe)
    values = q_values(policy, random, random.elements, random.focus)
    chosen = values[torch.arange(len(random)), torch.as_tensor(random.action, dtype=torch.int64)]
    error = (chosen - torch.as_tensor(random.reward)).abs().mean()
    assert error < 0.1 * random.reward.max()


def test_the_scale_of_the_rewards_does_not_change_the_weights(biased, tmp_path):
    # A factor of a power of two does not change the rounding.
    scaled = dataclasses.replace(biased, reward=8 * biased.reward)
    recipe = dataclasses.replace(SMALL_CQL, skeletons=60)
    assert same_weights(
        run_cql(tmp_path / "original", biased, recipe=recipe),
        run_cql(tmp_path / "scaled", scaled, recipe=recipe),
    )


def test_the_result_is_a_policy_that_records_its_training(random, tmp_path):
    cql = CQLConfig(alpha=0.3)
    policy = run_cql(tmp_path, random, cql, validation=random, precision="bf16-mixed")
    loaded = load_policy(tmp_path)
    assert same_weights(policy, loaded)
    record = loaded.config.training
    assert record["algorithm"] == "cql"
    assert record["cql"] == dataclasses.asdict(cql)
    assert record["epochs"] == 3
    assert 0 <= record["val_accuracy"] <= 1


def test_tensorboard_events_are_written_on_request(random, tmp_path):
    run_cql(tmp_path, random, loggers=("tensorboard",))
    assert list((tmp_path / "tensorboard").glob("events.*"))


@pytest.mark.parametrize(
    ("cql", "change", "message"),
    [
        (CQLConfig(alpha=-1), {}, "alpha to be at least 0 and finite, got -1"),
        (CQLConfig(gamma=1.5), {}, "gamma to be from 0 to 1, got 1.5"),
        (CQLConfig(tau=0), {}, "tau to be above 0"),
        (CQLConfig(alpha=float("nan")), {}, "alpha to be"),
        (CQLConfig(alpha=float("inf")), {}, "alpha to be at least 0 and finite"),
        (CQLConfig(), {"devices": 2}, "devices to be 1 for CQL, got 2"),
        (CQLConfig(), {"precision": "16-mixed"}, "got 16-mixed"),
        (CQLConfig(), {"patience": 2}, "Expected validation transitions"),
    ],
)
def test_invalid_settings_are_rejected_before_anything_is_written(
    random, tmp_path, cql, change, message
):
    with pytest.raises(CrystalGymError, match=message):
        run_cql(tmp_path, random, cql, **change)
    assert not list(tmp_path.iterdir())


def test_rewards_that_are_not_finite_are_rejected(random, tmp_path):
    reward = random.reward.copy()
    reward[3] = np.nan
    with pytest.raises(CrystalGymError, match="got 1 that are NaN or infinite"):
        run_cql(tmp_path, dataclasses.replace(random, reward=reward))


def test_checkpoints_of_other_settings_or_rewards_and_damaged_ones_are_rejected(random, tmp_path):
    run_cql(tmp_path, random)
    with pytest.raises(CrystalGymError, match="other settings"):
        run_cql(tmp_path, random, CQLConfig(alpha=0.7))
    with pytest.raises(CrystalGymError, match="other settings"):
        run_cql(tmp_path, dataclasses.replace(random, reward=random.reward + 1))
    content = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedFileError, match="Delete it to start again"):
        run_cql(tmp_path, random)
