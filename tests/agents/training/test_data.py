"""Loading of a split, and the command in the error of a missing dataset."""

import pytest

from crystal_agents.training.data import load_split
from crystal_datasets import build_dataset
from crystal_gym.errors import MissingDataError


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def test_a_built_dataset_is_loaded(toy):
    name = build_dataset(toy, "val", progress=False)
    assert load_split(toy, "toy", "val", progress=False).dataset_id == name


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ({}, "build-dataset toy"),
        ({"split_by": "composition"}, "build-dataset toy --split-by composition"),
        (
            {"behavior": "random"},
            "build-dataset toy --behavior random --reward match --splits train",
        ),
        (
            {"behavior": "mixed", "reward": "validity"},
            "build-dataset toy --behavior mixed --reward validity --splits train --policy POLICY",
        ),
        ({"behavior": "replay"}, "finetune POLICY --collection toy --reward match --record"),
    ],
)
def test_the_command_that_builds_a_missing_dataset_is_reported(toy, options, command):
    with pytest.raises(MissingDataError) as raised:
        load_split(toy, "toy", "train", progress=False, **options)
    assert f"Run `crystal-gym {command}` first" in str(raised.value)
    assert isinstance(raised.value.__cause__, MissingDataError)
