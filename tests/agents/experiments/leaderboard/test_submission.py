"""Submissions as files, and their JSON schema."""

import datetime as dt
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystal_agents.experiments.leaderboard.checks import read_submission
from crystal_agents.experiments.leaderboard.submission import Submission, schema_text
from crystal_agents.experiments.leaderboard.tasks import TASKS

DOCS = Path(__file__).parents[4] / "docs"
# Letters, numbers, punctuation and symbols of any script.
NAMES = st.text(st.characters(codec="utf-8", categories="LNPS"), min_size=1, max_size=30)


@st.composite
def submissions(draw):
    """Draw a valid submission."""
    task = draw(st.sampled_from(list(TASKS.values())))
    seeds = draw(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3, unique=True))
    # The lowest values of the metrics ascend, as the numbers of evaluations have to.
    offsets = [draw(st.integers(0, 900)) for _ in seeds]
    values = {
        key: tuple(
            float(metric.low + offset) if metric.whole else draw(st.floats(metric.low, metric.high))
            for offset in offsets
        )
        for key, metric in task.metrics.items()
    }
    counts = st.none() | st.integers(0, 10**9)
    return Submission(
        task=task.name,
        method=draw(NAMES),
        authors=tuple(draw(st.lists(NAMES, min_size=1, max_size=2))),
        code=draw(st.sampled_from(["crystal-gym", "https://example.org/a?b=c"])),
        paper=draw(st.none() | st.just("https://doi.org/10.1000/182")),
        date=draw(st.dates(dt.date(2020, 1, 1), dt.date(2026, 11, 27))),
        expert_data=draw(st.booleans()),
        environment_steps=draw(counts),
        oracle_calls=draw(counts),
        seeds=tuple(seeds),
        values=values,
        collection_sha256=task.collection_sha256,
        labels_sha256=task.labels_sha256,
        version="0.1.0",
        hardware=draw(NAMES),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("submissions")


@given(submission=submissions())
@settings(max_examples=20)
def test_saved_submissions_are_valid_and_equal(folder, submission):
    path = submission.save(folder)
    assert path.parent == folder / submission.task
    assert path.name.removesuffix(".json").replace("-", "").isalnum()
    assert read_submission(path, dt.date(2026, 11, 27)) == submission
    assert path.read_text("utf-8") == submission.text()


def test_published_schema_agrees_with_the_code():
    assert (DOCS / "leaderboard" / "schema.json").read_text() == schema_text(), (
        "Expected the schema of the code. Run crystal-gym leaderboard render."
    )


def test_schema_lists_the_tasks_and_requires_every_key(content):
    schema = json.loads(schema_text())
    assert schema["properties"]["task"]["enum"] == list(TASKS)
    assert set(schema["required"]) == set(schema["properties"]) == set(content)
    assert schema["additionalProperties"] is False
    assert all(field["description"] for field in schema["properties"].values())
