"""Learning curves: when a point is measured."""

from types import SimpleNamespace

import pytest

from crystal_agents.experiments.benchmark.learning_curve import EvalCallback


class CountingTask:
    """A task whose returns count its measurements."""

    def __init__(self, every):
        self.config = SimpleNamespace(every=every, curve_crystals=7)
        self.measured = []

    def measure(self, score, split, mask, crystals):
        self.measured.append((score, split, mask, crystals))
        return {"return": len(self.measured), "match": 0.0}


@pytest.fixture
def callback():
    return EvalCallback(
        CountingTask(every=100),
        "a scorer",
        SimpleNamespace(oracle_calls=5),
        "charge-neutral",
        lambda _: None,
    )


def test_points_are_at_least_the_interval_apart(callback):
    for steps in (0, 40, 80, 120, 160, 220, 300):
        callback.num_timesteps = steps
        callback._on_rollout_start()
    assert callback.curve == [(0, 1), (120, 2), (220, 3)]
    assert callback.oracle_calls == [5, 5, 5]
    assert callback.task.measured == [("a scorer", "val", "charge-neutral", 7)] * 3


def test_last_measurement_adds_no_second_point_at_the_same_step(callback):
    callback._on_rollout_start()
    callback.measure()
    assert callback.curve == [(0, 1)]
    callback.num_timesteps = 1
    callback.measure()
    assert [step for step, _ in callback.curve] == [0, 1]


def test_progress_advances_by_the_number_of_environments(callback):
    advanced = []
    callback.advance = advanced.append
    callback.model = SimpleNamespace(get_env=lambda: SimpleNamespace(num_envs=32))
    assert callback._on_step()
    assert advanced == [32]
