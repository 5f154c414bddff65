"""The examples with other libraries learn."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def clean_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def returns_of(name, capsys):
    """Run an example and return the returns that it prints."""
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    printed = capsys.readouterr().out
    return [float(number) for number in re.findall(r"(0\.\d{3})", printed)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cleanrl_ppo.py", "torchrl_ppo.py"])
def test_ppo_learns_from_scratch(name, capsys):
    first, last = returns_of(name, capsys)
    assert first < 0.05
    assert last > 0.2


@pytest.mark.slow
def test_cloning_learns_more_than_the_frequent_anions(capsys):
    before, after = returns_of("minari_cloning.py", capsys)
    assert before < 0.05
    assert after > 0.3


@pytest.mark.slow
def test_maskable_ppo_learns_and_a_warm_start_is_preserved(capsys):
    scratch_before, scratch_after, warm_before, warm_after = returns_of("maskable_ppo.py", capsys)
    assert scratch_after > scratch_before + 0.05
    assert warm_before > scratch_after + 0.2
    assert warm_after > warm_before - 0.02


def test_examples_have_less_than_60_lines():
    lines = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert len(lines) >= 10
    assert {name for name, count in lines.items() if count >= 60} == set()
