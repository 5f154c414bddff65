"""Runs of the reproduction: the accuracy curve read from a run's history."""

import pytest

from crystal_agents.experiments.reproduction.results import AccuracyCurve
from crystal_agents.experiments.reproduction.runner import _read_curve
from crystal_gym.errors import DamagedFileError

HEADINGS = "epoch,train_accuracy,val_accuracy\n"


def test_curve_has_the_validated_epochs_of_the_history(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(HEADINGS + "1,0.12345678,0.5\n2,0.2,\n3,0.3,0.75\n")
    assert _read_curve(path) == AccuracyCurve([1, 3], [0.123457, 0.3], [0.5, 0.75])


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
