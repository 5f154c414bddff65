"""The example of goal-conditioned cloning shows the effect of the target."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "goal_conditioned.py"


# The preparation of all crystals in an empty cache takes most of the time.
@pytest.mark.real
@pytest.mark.slow
def test_measured_heats_follow_the_target_only_if_the_policy_has_it(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    correlations = [float(value) for value in re.findall(r"correlation (-?[\d.]+)", printed)]
    labeled = [float(value) for value in re.findall(r"([\d.]+)% of the fillings", printed)]
    assert correlations[0] > 0.8
    assert abs(correlations[1]) < 0.01
    assert min(labeled) > 95
