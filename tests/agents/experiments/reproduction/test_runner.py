"""Runs of the reproduction: the training loop, the deadline and the accuracy curve."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from crystal_agents.experiments.reproduction.results import AccuracyCurve
from crystal_agents.experiments.reproduction.runner import RunContext, _read_curve
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.recipes import get_recipe
from crystal_gym.errors import DamagedFileError, TimeLimitError

HEADINGS = "epoch,train_accuracy,val_accuracy\n"


def test_curve_has_the_validated_epochs_of_the_history(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(HEADINGS + "1,0.12345678,0.5\n2,0.2,\n3,0.3,0.75\n")
    assert _read_curve(path) == AccuracyCurve([1, 3], [0.123457, 0.3], [0.5, 0.75])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (("auto", "cuda", "gcn", 5), True),
        (("auto", "cuda", "gcn", 4), False),
        (("auto", "cuda", "egnn", 5), False),
        (("auto", "cpu", "gcn", 5), False),
        (("off", "cuda", "gcn", 5), False),
        (("on", "cpu", "gcn", 5), True),
        (("on", "cpu", "gcn", 4), True),
    ],
)
def test_shapes_are_fixed_on_a_gpu_or_on_request(tmp_path, settings, expected):
    choice, device, recipe, sites = settings
    context = RunContext(tmp_path, fixed_shapes=choice)
    vars(context)["validation"] = SimpleNamespace(n_sites=np.array([5, 5]))
    data = SimpleNamespace(n_sites=np.array([5, sites]))
    config = TrainingConfig(tmp_path, get_recipe(recipe))
    assert context._has_fixed_shapes(config, data, torch.device(device)) == expected


def test_no_run_starts_after_the_deadline(tmp_path):
    context = RunContext(tmp_path, deadline=-1.0)
    recipe = get_recipe("gcn")
    with pytest.raises(TimeLimitError, match="before the run gcn-5-seed-0"):
        context.learn("gcn-5", tmp_path / "gcn-5-seed-0", recipe, trajectories=5, seed=0)
    with pytest.raises(TimeLimitError, match="before the run random-seed-3"):
        context.evaluate_uniform("random", 3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, FileNotFoundError),
        ("epoch,train_accuracy\n1,0.5\n", KeyError),
        (HEADINGS + "1,high,0.5\n", ValueError),
        (HEADINGS + "1,,0.5\n", ValueError),
    ],
)
def test_damaged_history_is_reported_with_its_cause(tmp_path, content, cause):
    path = tmp_path / "run" / "history.csv"
    path.parent.mkdir()
    if content is not None:
        path.write_text(content)
    with pytest.raises(DamagedFileError, match="Expected a training history in") as error:
        _read_curve(path)
    assert isinstance(error.value.__cause__, cause)
    assert f"Delete {path.parent} to repeat the run." in str(error.value)
