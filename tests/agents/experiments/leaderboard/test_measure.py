"""Values of fillings, and the template of a submission."""

import dataclasses
import json

import numpy as np
import pytest

from crystal_agents.experiments.leaderboard.checks import read_submission
from crystal_agents.experiments.leaderboard.measure import measure_fillings, template
from crystal_agents.experiments.leaderboard.tasks import TASKS
from crystal_gym import load_collection
from crystal_gym.errors import CrystalGymError, SubmissionError, UnknownNameError


@pytest.fixture(scope="module")
def collection():
    return load_collection("goldschmidt")


def test_true_elements_match_and_a_constant_filling_is_not_diverse(collection):
    true = collection.atomic_numbers[collection.in_split("test")]
    values = measure_fillings("perov-5/match", true, collection)
    assert values == {"match": 1.0, "unique": len(np.unique(true, axis=0)) / len(true)}
    constant = np.broadcast_to(true[0], true.shape)
    values = measure_fillings("perov-5/match", constant, collection)
    assert values["match"] == pytest.approx((constant == true).mean())
    assert values["unique"] == pytest.approx(1 / len(true))


def test_returns_are_looked_up_in_the_labels(collection):
    n = len(collection)
    labeled = dataclasses.replace(collection, labels={"ind_gap": np.full(n, 1.12)})
    true = labeled.atomic_numbers[labeled.in_split("test")]
    assert measure_fillings("perov-5/perov5-gap", true, labeled)["return"] == pytest.approx(1)


def test_wrong_shapes_and_tasks_are_rejected(collection):
    true = collection.atomic_numbers[collection.in_split("test")]
    with pytest.raises(CrystalGymError, match="Fill all test crystals"):
        measure_fillings("perov-5/match", true[1:], collection)
    with pytest.raises(CrystalGymError, match="whose reward scores fillings, got mp-20/accuracy"):
        measure_fillings("mp-20/accuracy", true, collection)
    with pytest.raises(UnknownNameError, match="Did you mean 'perov-5/match'"):
        measure_fillings("perov-5/macth", true, collection)


@pytest.mark.parametrize("task", TASKS)
def test_completed_template_is_valid(task, tmp_path):
    content = json.loads(template(task))
    path = tmp_path / "submission.json"
    path.write_text(template(task))
    with pytest.raises(SubmissionError) as caught:
        read_submission(path)
    keys = {line.split(" as ")[-1].split(" of ")[0] for line in str(caught.value).splitlines()}
    assert keys == {"method", "authors", "code", "expert_data", "seeds"}
    content |= {"method": "A", "authors": ["B"], "code": "crystal-gym", "expert_data": False}
    content |= {"seeds": [0]}
    content["values"] = {key: [metric.low] for key, metric in TASKS[task].metrics.items()}
    path.write_text(json.dumps(content))
    assert read_submission(path).task == task
