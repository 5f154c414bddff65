"""Pretrained policies of the package: completeness, checksums, loading and the command line."""

import json

import pytest
import torch
from publish_policy import MOST_BYTES

from crystal_agents import load_policy, pretrained_policies
from crystal_agents.cli import main as cli
from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_agents.policies.pretrained import (
    CARD_FILE,
    CHECKSUMS_FILE,
    PACKAGE,
    pretrained_folder,
)
from crystal_gym import load_collection
from crystal_gym.errors import DamagedFileError, UnknownNameError
from crystal_gym.utils.files import sha256

SMALL = {"hidden": 16, "vectors": 4, "geometry_layers": 1, "filling_layers": 1}
NAME = "goldschmidt/egnn"


@pytest.fixture
def package(tmp_path):
    """Return a package with one small policy."""
    torch.manual_seed(0)
    symbols = load_collection("goldschmidt").vocabulary.symbols
    folder = SkeletonPolicy(PolicyConfig("egnn", symbols, 5, SMALL)).save(
        tmp_path / "package" / NAME
    )
    (folder / CARD_FILE).write_text("A small policy.\n")
    checksums = {NAME: {path.name: sha256(path) for path in folder.iterdir()}}
    (tmp_path / "package" / CHECKSUMS_FILE).write_text(json.dumps(checksums))
    return tmp_path / "package"


def test_the_package_has_pretrained_policies():
    assert len(pretrained_policies()) >= 4


# The names are constants: an empty list of parameters would skip the test.
@pytest.mark.parametrize(
    "name", ["goldschmidt/egnn", "perov-5/egnn", "perov-5/egnn-indexed", "perov-5/egnn-paper"]
)
def test_pretrained_policies_are_complete_and_have_a_model_card(name):
    assert name in pretrained_policies()
    policy = load_policy(name)
    assert name == f"{policy.config.training['collection']}/{policy.config.network}"
    card = (pretrained_folder(name) / CARD_FILE).read_text()
    for text in (
        f"# {name}\n",
        "| command | `crystal-gym ",
        "seed",
        "| license |",
        "## Evaluation",
        "## Intended use",
        "## Limitations",
    ):
        assert text in card
    assert "NaN" not in card


def test_the_vocabulary_equals_that_of_the_collection():
    assert load_policy(NAME).vocabulary == load_collection("goldschmidt").vocabulary


def test_the_package_contains_only_the_listed_files():
    checksums = json.loads((PACKAGE / CHECKSUMS_FILE).read_text())
    assert set(checksums) == set(pretrained_policies())
    listed = {f"{name}/{file}" for name, files in checksums.items() for file in files}
    found = {
        path.relative_to(PACKAGE).as_posix() for path in PACKAGE.glob("*/*/*") if path.is_file()
    }
    assert found == listed
    assert sum((PACKAGE / file).stat().st_size for file in listed) <= MOST_BYTES


def test_an_empty_package_has_no_policies(tmp_path):
    assert pretrained_policies(tmp_path) == ()


@pytest.mark.parametrize("file", ["policy.safetensors", "policy.json", CARD_FILE])
def test_changed_and_missing_files_raise(package, file):
    path = pretrained_folder(NAME, package) / file
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(
        DamagedFileError, match=r"Expected the SHA-256 .* Install crystal-gym again"
    ):
        pretrained_folder(NAME, package)
    path.unlink()
    with pytest.raises(DamagedFileError, match=r"is missing\. Install"):
        pretrained_folder(NAME, package)


def test_damaged_checksums_raise(package):
    (package / CHECKSUMS_FILE).write_text("{")
    with pytest.raises(DamagedFileError, match=r"checksums\.json is damaged"):
        pretrained_policies(package)


def test_names_take_precedence_over_folders(package, monkeypatch):
    monkeypatch.chdir(package)
    small = load_policy(package / NAME)
    assert load_policy(NAME).config != small.config
    assert load_policy(f"./{NAME}").config == small.config


def test_unknown_names_raise(package):
    with pytest.raises(UnknownNameError, match="Did you mean 'goldschmidt/egnn'"):
        load_policy("goldschmidt/egn")
    with pytest.raises(UnknownNameError, match=r"pretrained policy.*Known: goldschmidt/egnn"):
        pretrained_folder("unknown", package)


def test_the_command_line_lists_pretrained_policies(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert cli.main(["list", "--runs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert pretrained_policies()
    assert all(name in printed for name in pretrained_policies())


def test_the_command_line_evaluates_pretrained_policies(capsys):
    assert cli.main(["evaluate", NAME, "--start-sites", "1", "--no-baselines"]) == 0
    assert "goldschmidt, test" in capsys.readouterr().out
