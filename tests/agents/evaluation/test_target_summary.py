"""Means, intervals and the plot of evaluations over several seeds."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import t
from target_reports import report, write

from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.evaluation.target_summary import read_report, save_calibration, summarize
from crystal_gym.errors import CrystalGymError, DamagedFileError


def test_intervals_are_those_of_the_t_distribution():
    values = np.array([1.0, 2.0, 4.0])
    estimate = MeanWithCI.of_seeds(values)
    low, high = t.interval(0.95, 2, values.mean(), values.std(ddof=1) / np.sqrt(3))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert MeanWithCI.of_seeds(values[:1]) == MeanWithCI(1.0, 1.0, 1.0)


def test_rows_are_averaged_over_seeds():
    unrequested, first, second = summarize([report(0.1), report(0.2), report(0.6)])
    assert unrequested.asked is None
    assert np.isnan(unrequested.metrics["error"].mean)
    assert first.metrics["measured"] == MeanWithCI.of_seeds(np.array([0.1, 0.2, 0.6]))
    assert second.metrics["measured"].mean == pytest.approx(1.3)
    assert second.metrics["error"].mean == pytest.approx(0.3)
    assert second.deviation == pytest.approx(0.2)


def test_reports_of_other_crystals_or_requests_are_errors():
    for other in (report(0.1, asked=(0.0, 2.0)), report(0.1, labels_sha256="1")):
        with pytest.raises(CrystalGymError, match="Expected reports with the same label"):
            summarize([report(0.1), other])
    with pytest.raises(CrystalGymError, match="got 0 kinds in 0 reports"):
        summarize([])


def test_files_are_read_and_plotted(tmp_path):
    (path,) = write(tmp_path, report(0.1))
    np.testing.assert_equal(dataclasses.asdict(read_report(path)), dataclasses.asdict(report(0.1)))
    image = save_calibration([report(0.1), report(0.3)], tmp_path / "plot.png")
    assert image.read_bytes().startswith(b"\x89PNG")


def test_damaged_files_are_errors(tmp_path):
    path = tmp_path / "damaged.json"
    for text in ("{", "[]", '{"label": "heat"}'):
        path.write_text(text)
        with pytest.raises(DamagedFileError, match="Expected a report"):
            read_report(path)
