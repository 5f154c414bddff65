"""The page of the leaderboard: its tables and plots show the committed submissions."""

import datetime as dt
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from crystal_agents.evaluation.statistics import aggregate
from crystal_agents.experiments.leaderboard.checks import read_all
from crystal_agents.experiments.leaderboard.page import (
    BEGIN,
    END,
    Documents,
    build_table,
    outdated,
    plot,
    rank,
    render,
)
from crystal_agents.experiments.leaderboard.tasks import TASKS
from crystal_gym.errors import DamagedFileError, MissingDataError

DOCS = Path(__file__).parents[4] / "docs"
MATCH = TASKS["perov-5/match"]


def test_committed_page_plots_and_schema_are_up_to_date():
    assert outdated(Documents(DOCS)) == [], "Run crystal-gym leaderboard render."


@pytest.fixture
def ranking(write, tmp_path):
    files = [
        write("low.json", method="low", paper="https://doi.org/10.1000/(1)", code="crystal-gym"),
        write("a.json", method="a|b_[c](d)", values={"match": [0.9, 0.9], "unique": [1, 1]}),
        write("other.json", task="perov-5/accuracy", values={"accuracy": [1, 1]}),
    ]
    return rank(MATCH, read_all(files, dt.date(2026, 11, 27)))


def test_best_submission_is_first_and_intervals_are_computed(ranking, tmp_path):
    assert [row.submission.method for row in ranking] == ["a|b_[c](d)", "low"]
    assert ranking[1].estimates["match"] == aggregate([np.array([0.5, 0.6])])
    first, second = build_table(MATCH, ranking, tmp_path).splitlines()[2:]
    assert first.startswith(r"| [a\|b\_\[c\](d)](a.json) | 90.00 | 100.00 | 2 | yes | 0 |  | ")
    assert second.startswith("| [low](low.json) | 55.00 [50.00, 60.00] | 62.50 [25.00, 100.00] |")
    assert "Ada Müller ([code](https://example.org/code)) | 2026-11-27 |" in first
    assert "Ada Müller ([paper](https://doi.org/10.1000/%281%29)) |" in second


def test_plots_shorten_and_escape_long_names(write):
    name = "$x$ " + 90 * "y"
    (row,) = rank(MATCH, read_all([write(method=name)], dt.date(2026, 11, 27)))
    (axes,) = plot(MATCH, [row]).axes
    (label,) = (text.get_text() for text in axes.get_yticklabels())
    assert label == r"\$x\$ " + 50 * "y" + "…"


def test_fewest_evaluations_are_first(write):
    task = TASKS["discovery/perov5-photocorrosion-shield"]
    shared = {"task": task.name, "labels_sha256": task.labels_sha256, "seeds": [0]}
    files = [
        write(
            f"{name}.json",
            method=name,
            values={"evaluations_1": [1], "evaluations_4": [4], "evaluations_8": [last]},
            **shared,
        )
        for name, last in (("slow", 900), ("fast", 80))
    ]
    rows = rank(task, read_all(files, dt.date(2026, 11, 27)))
    assert [row.submission.method for row in rows] == ["fast", "slow"]


@pytest.fixture
def documents(write, tmp_path):
    """Return documents with one submission and an empty page."""
    documents = Documents(tmp_path)
    write("leaderboard/submissions/perov-5/match/new.json")
    documents.page.write_text(f"# Title\n\n{BEGIN}\n{END}\n\nEnd.\n")
    return documents


def test_render_writes_what_is_outdated_once(documents, write):
    image = documents.plot("perov-5/match")
    assert render(documents) == [documents.page, documents.schema, image]
    assert image.read_bytes().startswith(b"\x89PNG")
    assert outdated(documents) == render(documents) == []
    text = documents.page.read_text()
    assert text.startswith(f"# Title\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nEnd.\n")
    assert text.count("No submission yet.") == len(TASKS) - 1
    assert (DOCS / "leaderboard" / "schema.json").read_text() == documents.schema.read_text()
    # A new value changes the table and the plot, but not the schema.
    write("leaderboard/submissions/perov-5/match/new.json", seeds=[3, 4])
    assert outdated(documents) == [image]
    values = {"match": [0.1, 0.2], "unique": [1, 1]}
    write("leaderboard/submissions/perov-5/match/new.json", values=values)
    assert outdated(documents) == [documents.page, image]
    image.write_bytes(b"damaged")
    documents.schema.write_text("{}")
    assert outdated(documents) == [documents.page, documents.schema, image]


def test_page_without_its_generated_part_is_rejected(documents):
    documents.page.write_text("# Title\n")
    with pytest.raises(DamagedFileError, match="Expected the lines"):
        render(documents)
    documents.page.unlink()
    with pytest.raises(MissingDataError, match="Run the command in a checkout"):
        render(documents)
    shutil.rmtree(documents.submissions)
    with pytest.raises(MissingDataError, match="Run the command in a checkout"):
        outdated(documents)


def test_every_key_of_a_submission_is_explained(content):
    section = (DOCS / "leaderboard.md").read_text().split("## Add a row")[1].split("###")[0]
    explained = re.findall(
        r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE))
    )
    assert sorted(explained) == sorted(content)
