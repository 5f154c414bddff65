"""The table and the plot of evaluations of conditional policies."""

import plot_targets
from target_reports import report, write


def test_the_table_has_means_and_intervals(tmp_path, capsys):
    paths = write(tmp_path, report(0.1), report(0.3))
    assert plot_targets.main(list(map(str, paths))) == 0
    printed = capsys.readouterr().out
    assert "heat, 10 skeletons of val, 2 seeds" in printed
    assert "| – | – | 0.50 | – | 100.0 | 90.0 |" in printed
    assert "| 1 | 1.00 | 1.20 ± 1.27 | 0.20 ± 1.27 |" in printed


def test_other_files_are_reported(tmp_path, capsys):
    path = tmp_path / "other.json"
    path.write_text("{}")
    assert plot_targets.main([str(path), "--image", str(tmp_path / "plot.png")]) == 2
    assert "Expected a report" in capsys.readouterr().err
    assert not (tmp_path / "plot.png").exists()
