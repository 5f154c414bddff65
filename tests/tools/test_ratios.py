"""The report of all speed ratios."""

import json
import sys
from pathlib import Path

import pytest


@pytest.fixture
def ratios(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import ratios

    return ratios


def test_ratios_are_the_numbers_below_keys_that_contain_the_word(ratios):
    result = {
        "arguments": {"turns": 3},
        "ratio to CartPole": {"single": 0.9, "vector": [30, 10, 20]},
        "ratio of memory": 0.5,
        "nested": {"required ratio": {"vector": 2}},
    }
    assert dict(ratios.ratios_in(result)) == {
        "ratio to CartPole, single": 0.9,
        "ratio to CartPole, vector": 20,
        "ratio of memory": 0.5,
        "nested, required ratio, vector": 2,
    }


def test_the_report_stores_results_and_compares_them_with_the_committed_ones(
    ratios, tmp_path, monkeypatch, capsys
):
    script = tmp_path / "count.py"
    script.write_text(
        "import sys, pathlib\n"
        'pathlib.Path(sys.argv[-1]).write_text(\'{"ratio": {"ours": 3.0}}\')\n'
        "with open(__file__ + '.runs', 'a') as file: file.write('x')\n"
    )
    committed = tmp_path / "committed.json"
    committed.write_text('{"ratios": {"count": {"ratio, ours": 2.0}}}')
    monkeypatch.setattr(ratios, "HERE", tmp_path)
    monkeypatch.setattr(ratios, "COMMITTED", committed)
    monkeypatch.setattr(ratios, "MEASUREMENTS", {"count": ("count.py",)})
    folder = tmp_path / "bench"
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["ratios.py", str(folder)])
        ratios.main()
    assert (tmp_path / "count.py.runs").read_text() == "x"
    assert json.loads((folder / "ratios.json").read_text())["ratios"] == {
        "count": {"ratio, ours": 3.0}
    }
    assert "150%" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["ratios.py", str(folder), "--only", "other"])
    with pytest.raises(SystemExit, match=r"among count, got 'other'"):
        ratios.main()
