"""A valid submission as a dictionary, and files with changed ones."""

import json

import pytest

from crystal_agents.experiments.leaderboard.tasks import TASKS


@pytest.fixture
def content():
    """Return a valid submission to ``perov-5/match``."""
    return {
        "task": "perov-5/match",
        "method": "Nearest neighbors",
        "authors": ["Ada Müller"],
        "code": "https://example.org/code",
        "paper": None,
        "date": "2026-11-27",
        "expert_data": True,
        "environment_steps": 0,
        "oracle_calls": None,
        "seeds": [0, 1],
        "values": {"match": [0.5, 0.6], "unique": [0.25, 1]},
        "collection_sha256": TASKS["perov-5/match"].collection_sha256,
        "labels_sha256": None,
        "version": "0.1.0",
        "hardware": "one core",
    }


@pytest.fixture
def write(content, tmp_path):
    """Write the submission with changes; the value ``...`` removes a key."""

    def write(name="submission.json", **changes):
        entries = {k: v for k, v in (content | changes).items() if v is not ...}
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(entries))
        return path

    return write
