"""Bundles: columns of Table 1 run without this package, and their results are read back."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from training_runs import same_weights

from crystal_agents.experiments.reproduction import bundle, bundle_results
from crystal_agents.experiments.reproduction.runner import RunContext
from crystal_agents.experiments.reproduction.table_1 import TABLE_1
from crystal_agents.policies.policy import load_policy
from crystal_datasets import build_dataset
from crystal_gym.errors import CrystalGymError, DamagedFileError

NOT_NEEDED = (
    *("gymnasium", "minari", "pymatgen", "smact", "torch_geometric", "lightning_fabric", "h5py"),
    *("crystal_datasets", "crystal_agents.policies", "crystal_gym.collections"),
)
RUN = f"""
import sys
from crystal_agents.experiments.reproduction.bundle_run import main
main(sys.argv[1:])
found = [name for name in {NOT_NEEDED} if name in sys.modules]
assert not found, found
"""


@pytest.fixture(scope="module")
def folder(perovskites, tmp_path_factory):
    """Return a folder with a bundle of the perovskites and one run of one epoch."""
    folder = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder / "minari"))
        for split in ("train", "val"):
            build_dataset(perovskites, split, progress=False)
        bundle.main([str(folder / "bundle"), "--collection", str(perovskites), "--seeds", "0"])
        environment = {**os.environ, "PYTHONPATH": str(folder / "bundle"), "OMP_NUM_THREADS": "1"}
        arguments = ["--columns", "gcn-5", "--epochs", "1", "--eager", "--device", "cpu"]
        subprocess.run(
            [sys.executable, "-c", RUN, *arguments],
            cwd=folder / "bundle",
            env=environment,
            check=True,
        )
        yield folder


@pytest.fixture
def context(folder, perovskites, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder / "minari"))
    return RunContext(tmp_path, str(perovskites), progress=False)


def test_results_are_read_once(folder, context, tmp_path):
    runs = folder / "bundle" / "runs"
    (record,) = bundle_results.read_runs(runs, context)
    assert (record.variant, record.seed, record.epochs) == ("gcn-5", 0, 1)
    assert record.curve.epoch == [1]
    assert 0 < record.metrics["accuracy"].mean < 1
    assert list(bundle_results.read_runs(runs, context)) == []
    assert TABLE_1.load(tmp_path) == [record]
    policy = load_policy(tmp_path / "gcn-5-seed-0-epochs-1")
    assert policy.config.training["hardware"] == record.hardware


def test_a_run_with_fixed_shapes_has_the_results_of_the_bundle(folder, context, tmp_path):
    (expected,) = bundle_results.read_runs(folder / "bundle" / "runs", context)
    fixed = dataclasses.replace(context, folder=tmp_path / "fixed", fixed_shapes="on")
    (record,) = TABLE_1.reproduce(fixed, ["gcn-5"], [0], 1)
    assert record.metrics == expected.metrics
    assert record.curve == expected.curve
    assert record.key == expected.key
    run = "gcn-5-seed-0-epochs-1"
    assert same_weights(load_policy(tmp_path / run), load_policy(fixed.folder / run))


def test_runs_on_other_crystals_are_refused(folder, context, tmp_path):
    (file,) = (folder / "bundle" / "runs").glob("*.json")
    run = json.loads(file.read_text())
    (tmp_path / file.name).write_text(json.dumps({**run, "collection_sha256": "ab" * 32}))
    with pytest.raises(CrystalGymError, match="abababababab"):
        list(bundle_results.read_runs(tmp_path, context))


@pytest.mark.parametrize("text", ["[", "{}", '{"column": "gcn-5"}'])
def test_other_files_are_refused(text, context, tmp_path):
    (tmp_path / "gcn-5-seed-0.json").write_text(text)
    with pytest.raises(DamagedFileError, match=r"gcn-5-seed-0\.json"):
        list(bundle_results.read_runs(tmp_path, context))


def test_a_folder_without_runs_is_refused(context, tmp_path):
    with pytest.raises(CrystalGymError, match="finished runs"):
        list(bundle_results.read_runs(tmp_path, context))


def test_an_existing_folder_is_not_overwritten(folder, context):
    with pytest.raises(CrystalGymError, match="new folder"):
        bundle.write_bundle(folder / "bundle", context, [0])
