"""The command ``crystal-gym leaderboard``, and the submissions of ``benchmark``."""

import json
import shutil
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
RECORDS = DOCS / "data" / "benchmark-perov-5" / "benchmark.json"


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_row_is_added(run, in_folder):
    file = in_folder / "docs" / "leaderboard" / "submissions" / "perov-5" / "match" / "new.json"
    template = ("leaderboard", "template", "perov-5/match", file)
    assert run(*template)[0] == 0
    text = file.read_text()
    code, _, error = run(*template)
    assert (code, f"Expected no file {file}" in error) == (2, True)
    code, _, error = run("leaderboard", "check")
    assert (code, error.count("Expected")) == (2, 5)
    values = {"match": [0.5], "unique": [1]}
    row = {"method": "New", "authors": ["A"], "code": "crystal-gym", "expert_data": True}
    file.write_text(json.dumps(json.loads(text) | row | {"seeds": [0], "values": values}))
    for arguments in ((), (file,)):
        code, out, _ = run("leaderboard", "check", *arguments)
        assert (code, "new.json: New on perov-5/match" in out) == (0, True)
    page = in_folder / "docs" / "leaderboard.md"
    shutil.copy(DOCS / "leaderboard.md", page)
    code, out, _ = run("leaderboard", "render")
    assert code == 0
    assert out.splitlines()[0] == "docs/leaderboard.md"
    assert "| [New](leaderboard/submissions/perov-5/match/new.json) | 50.00 |" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("template", "perov-5/match"), "Expected the name of a task and a file, got 1 arguments"),
        (("template", "perov-5/macth", "new.json"), "Did you mean 'perov-5/match'?"),
        (("export",), "Expected files of records, got none"),
        (("export", RECORDS), "Pass --authors NAME"),
        (("check",), "Run the command in a checkout"),
        (("render",), "Run the command in a checkout"),
        (("check", "none.json"), "got no file"),
    ],
)
def test_invalid_usage_is_reported(run, in_folder, arguments, message):
    code, _, error = run("leaderboard", *arguments)
    assert (code, message in error) == (2, True)


def test_stored_runs_become_submissions(run, in_folder):
    shutil.copy(RECORDS, in_folder)
    benchmark = ("benchmark", "perov-5", "--folder", ".", "--report-only", "--seeds", 0, 1)
    selected = ("--rewards", "match", "--methods", "uniform", "bc", "--submit-as", "Ada", "Bob")
    code, _, _ = run(*benchmark, *selected)
    files = sorted(path.relative_to(in_folder) for path in in_folder.rglob("perov-5/*/*.json"))
    assert (code, [path.name for path in files]) == (0, ["bc.json", "uniform.json"])
    submission = json.loads((in_folder / "submissions/perov-5/match/uniform.json").read_text())
    assert (submission["authors"], submission["seeds"]) == (["Ada", "Bob"], [0, 1])
    code, out, _ = run("leaderboard", "export", "benchmark.json", "--authors", "A", "--folder", "f")
    assert code == 0
    assert "f/perov-5/match/uniform.json" in out


def test_stored_searches_become_submissions(run, in_folder):
    shutil.copy(DOCS / "data" / "discovery" / "discovery.json", in_folder)
    selected = ("--methods", "random", "--rewards", "perov5-water-splitting", "--submit-as", "Ada")
    code, out, _ = run("benchmark", "discovery", "--folder", ".", "--report-only", *selected)
    assert code == 0
    name = "submissions/discovery/perov5-water-splitting/random-search.json"
    assert name in out
    assert len(json.loads((in_folder / name).read_text())["seeds"]) == 20


def test_results_without_a_task_are_an_error(run, in_folder):
    records = json.loads(RECORDS.read_text())[:1]
    records[0]["reward"] = "validity"
    Path("benchmark.json").write_text(json.dumps(records))
    code, _, error = run("leaderboard", "export", "benchmark.json", "--authors", "A")
    assert (code, "has no task perov-5/validity" in error) == (2, True)
