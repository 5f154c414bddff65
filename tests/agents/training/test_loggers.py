"""Loggers of metrics by name."""

import sys
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from crystal_agents.training.loggers import open_loggers
from crystal_gym.errors import CrystalGymError, UnknownNameError


class FakeRun:
    """A run of Weights & Biases that records its calls."""

    def __init__(self):
        self.logged, self.finished = [], False

    def log(self, metrics, step):
        self.logged.append((step, metrics))

    def finish(self):
        self.finished = True


def test_tensorboard_events_have_names_steps_and_values(tmp_path):
    with open_loggers(["tensorboard"], tmp_path) as (logger,):
        logger.log({"loss": 2.0, "accuracy": 0.25}, 10)
        logger.log({"loss": 1.0}, 20)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(10, 2), (20, 1)]
    assert [event.value for event in events.Scalars("accuracy")] == [0.25]


def test_a_resumed_run_of_wandb_continues_and_is_finished_after_an_error(tmp_path, monkeypatch):
    made = []

    def init(**options):
        made.append((options, FakeRun()))
        return made[-1][1]

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    monkeypatch.setenv("WANDB_PROJECT", "perovskites")

    def fail():
        with open_loggers(["wandb"], tmp_path / "run") as (logger,):
            logger.log({"loss": 2.0}, 10)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with open_loggers(["wandb"], tmp_path / "run"):
        pass
    (options, run), (again, _) = made
    assert options == again
    assert (options["project"], options["name"], options["resume"]) == (
        "perovskites",
        "run",
        "allow",
    )
    assert (run.logged, run.finished) == ([(10, {"loss": 2.0})], True)


def test_missing_packages_and_unknown_loggers_are_reported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with (
        pytest.raises(CrystalGymError, match="pip install wandb"),
        open_loggers(["wandb"], tmp_path),
    ):
        pass
    with pytest.raises(UnknownNameError, match="wandb"), open_loggers(["wanb"], tmp_path):
        pass
