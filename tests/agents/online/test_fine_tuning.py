"""Runs of online learning: checkpoints, learning curves and the resulting policy."""

import csv

import numpy as np
import pytest
from online_models import N_ENVS, SHORT, PartlyLabeled, envs_for, equal_weights, policy_for
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from crystal_agents import extract_policy, load_policy, warm_start
from crystal_agents.evaluation.returns import greedy_returns, nan_means
from crystal_agents.online.algorithms import SkeletonPPO
from crystal_agents.online.critic_warm_up import FrozenActorWarning
from crystal_agents.online.fine_tuning import fine_tune
from crystal_agents.policies.policy import PolicyScorer
from crystal_gym import CrystalSkeletonVectorEnv
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.errors import CrystalGymError, DamagedFileError
from crystal_gym.rewards import resolve_reward


def test_a_short_run_does_not_collapse():
    """A pretrained policy keeps its accuracy on the reward that it was cloned for."""
    cloned = load_policy("goldschmidt/egnn")
    envs = CrystalSkeletonVectorEnv(64, collection="goldschmidt", autoreset_mode="SameStep")
    model = warm_start(cloned, "ppo", envs, critic_warm_up=1280, n_steps=10, batch_size=320)
    model.learn(3200)
    learned = extract_policy(model, steps=3200)
    fingerprint = envs.table.collection.fingerprint()
    assert learned.config.training["finetuning"] == [
        {"collection_sha256": fingerprint, "steps": 3200}
    ]
    assert not equal_weights(cloned.state_dict(), learned.state_dict())
    table, reward = envs.table, resolve_reward("match")
    rows = table.collection.in_split("val")
    before, after = (
        nan_means(greedy_returns(PolicyScorer(policy, table), table, rows, reward).metrics).means
        for policy in (cloned, learned)
    )
    assert before["return"] == pytest.approx(before["match"])
    assert after["match"] > before["match"] - 0.05


def model_for(toy):
    return warm_start(policy_for(toy), "ppo", envs_for(toy), critic_warm_up=96, **SHORT)


class StoppedError(Exception):
    """Stops a run between two updates."""


def test_a_run_resumes_from_its_checkpoint(toy, tmp_path, monkeypatch):
    train, calls = SkeletonPPO.train, []

    def train_or_stop(self):
        calls.append(train(self))
        if len(calls) == 3:
            raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(SkeletonPPO, "train", train_or_stop)
        with pytest.raises(StoppedError):
            fine_tune(model_for(toy), 480, tmp_path, {}, checkpoint_seconds=0, progress=False)
    assert not (tmp_path / "policy.json").exists()
    resumed = model_for(toy)
    policy = fine_tune(resumed, 480, tmp_path, {}, progress=False)
    assert resumed.num_timesteps == 480
    # The checkpoint contained two of five updates.
    assert resumed._n_updates == 5 * resumed.n_epochs
    assert equal_weights(policy.state_dict(), load_policy(tmp_path).state_dict())
    # A finished run only returns its result.
    again = fine_tune(model_for(toy), 480, tmp_path, {}, progress=False)
    assert equal_weights(policy.state_dict(), again.state_dict())


def test_a_run_rejects_other_settings_and_damaged_files(toy, tmp_path):
    fine_tune(model_for(toy), 192, tmp_path, {}, progress=False)
    with pytest.raises(CrystalGymError, match="got different values of steps"):
        fine_tune(model_for(toy), 500, tmp_path, {}, progress=False)
    curve = tmp_path / "curve.csv"
    whole = curve.read_text()
    curve.write_text("steps,return\nmany,1\n")
    with pytest.raises(DamagedFileError, match=r"learning curve in .*curve\.csv") as caught:
        fine_tune(model_for(toy), 192, tmp_path, {}, progress=False)
    assert isinstance(caught.value.__cause__, ValueError)
    curve.write_text(whole)
    checkpoint = tmp_path / "model.zip"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-200])
    with pytest.raises(DamagedFileError, match=r"model\.zip.*Delete it to start again"):
        fine_tune(model_for(toy), 192, tmp_path, {}, progress=False)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(DamagedFileError, match=r"settings\.json, but the file is damaged"):
        fine_tune(model_for(toy), 192, tmp_path, {}, progress=False)


@pytest.mark.parametrize(("steps", "message"), [(0, "at least 1 step"), (96, "more than 96 steps")])
def test_a_run_rejects_too_few_steps(toy, tmp_path, steps, message):
    with pytest.raises(CrystalGymError, match=message):
        fine_tune(model_for(toy), steps, tmp_path, {}, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_run_warns_if_the_actor_was_never_updated_and_records_its_steps(toy, tmp_path):
    model = warm_start(policy_for(toy), "ppo", envs_for(toy), critic_warm_up=8, **SHORT)
    with pytest.warns(FrozenActorWarning, match="The actor is unchanged"):
        policy = fine_tune(model, 10, tmp_path, {}, progress=False)
    (stage,) = policy.config.training["finetuning"]
    assert stage["steps"] == model.num_timesteps > 10


def test_curve_counts_missing_values_and_ends_with_the_training(toy, tmp_path):
    model = warm_start(
        policy_for(toy), "ppo", envs_for(toy, reward=PartlyLabeled()), critic_warm_up=0, **SHORT
    )
    fine_tune(model, 192, tmp_path, {}, loggers=["tensorboard"], progress=False)
    with (tmp_path / "curve.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert int(row["steps"]) == 192
    assert int(row["episodes"]) > 192 / toy.max_sites - N_ENVS
    assert (float(row["return"]), float(row["label"])) == (1, 3)
    assert 0 < int(row["label/n_missing"]) < int(row["episodes"])
    assert 0 <= float(row["match"]) <= 1
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("return")] == [(192, 1)]
    # The running count of failures is not a metric of an episode.
    assert "failures" not in row


def test_a_resumed_run_continues_the_counts_of_its_reward(toy, tmp_path, monkeypatch):
    def start(folder):
        envs = envs_for(toy, reward={"match": 1.0, "novelty": 1.0})
        model = warm_start(policy_for(toy), "ppo", envs, critic_warm_up=0, n_epochs=1, **SHORT)
        fine_tune(model, 288, folder, {}, checkpoint_seconds=0, progress=False)
        (counts,) = envs.reward.memories().values()
        return counts.arrays()["counts"].sum()

    def train_or_stop(self):
        calls.append(train(self))
        if len(calls) == 2:
            raise StoppedError

    train, calls = SkeletonPPO.train, []
    with monkeypatch.context() as patch:
        patch.setattr(SkeletonPPO, "train", train_or_stop)
        with pytest.raises(StoppedError):
            start(tmp_path)
    with np.load(tmp_path / "counts.npz") as file:
        saved = file["novelty/novelty/counts"].sum()
    assert saved > 0
    total = start(tmp_path)
    with (tmp_path / "curve.csv").open(newline="") as file:
        episodes = [int(row["episodes"]) for row in csv.DictReader(file)]
    assert total == saved + sum(episodes)


def test_environments_must_share_a_reward_with_a_memory(toy, tmp_path):
    singles = DummyVecEnv(
        [lambda: Monitor(CrystalSkeletonEnv(collection=toy, reward="novelty"))] * 2
    )
    model = warm_start(policy_for(toy), "ppo", singles, critic_warm_up=0, n_steps=6, batch_size=6)
    with pytest.raises(CrystalGymError, match="Expected environments that share a reward"):
        fine_tune(model, 12, tmp_path, {}, progress=False)
