"""Invalid submissions: one clear error for each problem, with file and key."""

import datetime as dt
from pathlib import Path

import pytest

from crystal_agents.experiments.leaderboard.checks import read_all, read_folder, read_submission
from crystal_gym.errors import MissingDataError, SubmissionError

TODAY = dt.date(2026, 11, 27)
SUBMISSIONS = Path(__file__).parents[4] / "docs" / "leaderboard" / "submissions"
NAN, INFINITY = float("nan"), float("inf")
DISCOVERY = {
    "task": "discovery/perov5-water-splitting",
    "labels_sha256": "940fbe5c463ead23b4ca99c2f6c1c02e373d082318bf23d1abbcc4f9bb845d12",
    "seeds": [7],
}


def found(one, ten, twenty):
    return {"evaluations_1": [one], "evaluations_10": [ten], "evaluations_20": [twenty]}


def problems(path):
    with pytest.raises(SubmissionError) as caught:
        read_submission(path, TODAY)
    return str(caught.value).splitlines()


def test_committed_submissions_are_valid():
    assert len(read_folder(SUBMISSIONS)) >= 40


def test_valid_submission_is_read(write):
    submission = read_submission(write(), TODAY)
    assert submission.values == {"match": (0.5, 0.6), "unique": (0.25, 1.0)}
    assert read_submission(write(**DISCOVERY, values=found(1, 10, 20.0)), TODAY).seeds == (7,)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"athors": []}, "the keys of a submission, got 'athors'"),
        ({"athors": []}, "Did you mean 'authors'?"),
        ({"method": ...}, "a name of the method"),
        ({"method": ...}, "got nothing as method of "),
        ({"method": ...}, "Add the key."),
        ({"method": ""}, 'got "" as method of '),
        ({"method": "two\nlines"}, r'got "two\nlines" as method of '),
        ({"method": "hidden\u202edirection"}, r"hidden\u202edirection"),
        ({"method": 5}, "got 5 as method of "),
        ({"authors": []}, "a list of 1 to 20 names"),
        ({"authors": "Ada"}, 'got "Ada" as authors of '),
        ({"authors": ["Ada", " "]}, 'got " " as authors[1] of '),
        ({"code": "example.org"}, "the URL of the code"),
        ({"code": None}, "got null as code of "),
        ({"paper": "javascript:alert(1)"}, "the URL of a publication, or null"),
        ({"date": "27.11.2026"}, "as YYYY-MM-DD"),
        ({"date": "2026-11-28"}, "a date up to 2026-11-27, got 2026-11-28 as date of "),
        ({"expert_data": "no"}, 'got "no" as expert_data of '),
        ({"environment_steps": -1}, "got -1 as environment_steps of "),
        ({"oracle_calls": True}, "got true as oracle_calls of "),
        ({"oracle_calls": 1.5}, "got 1.5 as oracle_calls of "),
        ({"seeds": [0, 0]}, "different integers from 0"),
        ({"seeds": [0, -1]}, "got -1 as seeds[1] of "),
        ({"seeds": [0, 1, 2]}, "one number for each of the 3 seeds, got 2 numbers as values."),
        ({"values": {"match": [NAN, 0], "unique": [1, 1]}}, "got NaN as values.match[0] of "),
        ({"values": {"match": [0, INFINITY], "unique": [1, 1]}}, "got Infinity as values.match[1]"),
        ({"values": {"match": [59.2, 0], "unique": [1, 1]}}, "numbers from 0 to 1, got 59.2 as "),
        ({"values": {"match": ["1", 0], "unique": [1, 1]}}, 'got "1" as values.match[0] of '),
        ({"values": {"match": [0, 0]}}, "the metrics of perov-5/match: match, unique, got match"),
        ({"values": {}}, "got {} as values of "),
        ({"collection_sha256": "99f9"}, "the SHA-256 of the collection"),
        ({"collection_sha256": "0" * 64}, "99f9ff90f508d5636b8bccc4112f03cf417284e6b39cb6967468f"),
        ({"labels_sha256": "0" * 64}, "null for perov-5/match, got 0000"),
        ({"version": "latest"}, 'such as "0.1.0", got "latest" as version of '),
        ({"hardware": "x" * 301}, "as hardware of "),
        ({"task": "perov-5/macth"}, "Did you mean 'perov-5/match'?"),
        (DISCOVERY | {"labels_sha256": None, "values": found(1, 10, 20)}, "got null as labels_sha"),
        (DISCOVERY | {"values": found(0, 10, 20)}, "whole numbers from 1 to 18928, got 0.0 as "),
        (DISCOVERY | {"values": found(1, 10.5, 20)}, "got 10.5 as values.evaluations_10[0] of "),
        (DISCOVERY | {"values": found(30, 40, 35)}, "for seed 7, got 30, 40, 35 as values of "),
    ],
)
def test_invalid_value_has_one_error_with_file_and_key(write, changes, expected):
    path = write(**changes)
    lines = problems(path)
    assert any(expected in line for line in lines)
    assert len(lines) == (2 if changes.get("seeds") == [0, 1, 2] else 1)
    for line in lines:
        assert line.startswith("Expected ")
        assert f" of {path}. " in line


def test_every_problem_is_reported(write):
    lines = problems(write(method=..., seeds=[], paper=3))
    assert [line.split(" as ")[-1].split(" of ")[0] for line in lines] == [
        "method",
        "paper",
        "seeds",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "Expecting value"),
        ("{", "cannot be parsed"),
        ('{"task": "a", "task": "b"}', "the key 'task' occurs twice"),
        ("[" * 100_000, "cannot be parsed"),
        ("[]", "Expected a JSON object in "),
        ('{"task": "\\ud800"}', "Expected valid JSON"),
        (b"\xff\xfe", "in UTF-8"),
    ],
)
def test_file_without_a_json_object_is_rejected(tmp_path, text, expected):
    path = tmp_path / "submission.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (line,) = problems(path)
    assert expected in line
    assert str(path) in line


def test_missing_files_are_reported(tmp_path):
    with pytest.raises(MissingDataError, match="got no file"):
        read_submission(tmp_path / "submission.json", TODAY)
    with pytest.raises(MissingDataError, match="got no folder"):
        read_folder(tmp_path / "submissions", TODAY)


def test_names_of_methods_differ_within_a_task(write):
    files = [write("a.json"), write("b.json", method="nearest  Neighbors"), write("c.json", foo=1)]
    with pytest.raises(SubmissionError) as caught:
        read_all(files, TODAY)
    unknown, duplicate = str(caught.value).splitlines()
    assert "'foo'" in unknown
    assert f"{files[0]} and {files[1]}. Rename one of them." in duplicate
    other = write("b.json", **DISCOVERY, values=found(1, 10, 20))
    assert list(read_all([files[0], other], TODAY)) == [files[0], other]


def test_folder_contains_json_files_in_the_folders_of_their_tasks(write, tmp_path):
    good = write("perov-5/match/good.json")
    assert list(read_folder(tmp_path, TODAY)) == [good]
    (tmp_path / "perov-5" / "match" / "notes.txt").write_text("")
    with pytest.raises(
        SubmissionError, match=r"Expected names of letters.*, got .*notes\.txt\. Ren"
    ):
        read_folder(tmp_path, TODAY)
    (tmp_path / "perov-5" / "match" / "notes.txt").unlink()
    write("perov-5/match/a (1).json", method="another")
    with pytest.raises(
        SubmissionError, match=r"Expected names of letters.*, got .*a \(1\)\.json\. Ren"
    ):
        read_folder(tmp_path, TODAY)
    (tmp_path / "perov-5" / "match" / "a (1).json").unlink()
    write("perov-5/accuracy/other.json", method="other")
    with pytest.raises(SubmissionError, match=r"in the folder of its task.*match, got the folder"):
        read_folder(tmp_path, TODAY)


def test_default_date_limit_allows_all_time_zones(write):
    tomorrow = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)
    assert read_submission(write(date=tomorrow.isoformat())).date == tomorrow
    with pytest.raises(SubmissionError, match="a date up to"):
        read_submission(write(date=(tomorrow + dt.timedelta(days=2)).isoformat()))
