"""The whole path on a fixed sample of 300 crystals of MP-20: datasets, training, evaluation."""

import csv
import gzip
import io

import h5py
import minari
import numpy as np
import pytest

from crystal_agents import load_policy
from crystal_agents.evaluation.evaluate import RANDOM_ASSIGNMENT, evaluate
from crystal_agents.evaluation.rows import ExtraMetrics
from crystal_agents.training.behavioral_cloning import train
from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.recipes import Recipe
from crystal_datasets import build_dataset, load_transitions
from crystal_datasets.dataset_folder import dataset_path
from crystal_gym import load_collection
from crystal_gym.collections.collection import SPLITS
from crystal_gym.collections.mp20 import FILES
from crystal_gym.utils.files import find_local

pytestmark = pytest.mark.real

PER_SPLIT = 100
FINGERPRINT = "40ebf0e516941937a4b1add7e98cda17d2cded7f81201e8b1f38eed2b8b6deb0"


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Return the collection of a folder with 100 rows of each file of MP-20."""
    folder = tmp_path_factory.mktemp("mp-20-sample")
    csv.field_size_limit(1 << 24)
    for split in SPLITS:
        content = gzip.decompress(find_local(FILES[split], "mp_20").read_bytes()).decode()
        header, *rows = csv.reader(io.StringIO(content))
        chosen = np.random.default_rng(0).permutation(len(rows))[:PER_SPLIT]
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows[row] for row in sorted(chosen))
    return load_collection(folder)


def test_the_sample_is_read_as_before(sample):
    assert len(sample) == 3 * PER_SPLIT
    assert sample.fingerprint() == FINGERPRINT


def test_datasets_contain_the_crystals_and_compressed_edges(sample, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    name = build_dataset(sample, "train", trajectories=2, progress=False)
    data = load_transitions(name, progress=False)
    rows = sample.in_split("train")
    assert sorted(data.n_sites.tolist()) == sorted(sample.n_sites[rows].tolist())
    with h5py.File(dataset_path(name) / "data" / "main_data.hdf5") as file:
        episodes = [file[f"episode_{k}/observations"] for k in range(20)]
        large = [group["edges"] for group in episodes if group["edges"].nbytes > 8_000]
        assert large
        assert all(edges.compression == "gzip" for edges in large)
        assert all(edges.id.get_storage_size() < edges.nbytes / 5 for edges in large)
    dataset = minari.load_dataset(name)
    metadata = {m["id"]: m for m in dataset.storage.get_episode_metadata(range(20))}
    for episode in dataset.iterate_episodes(range(20)):
        row = sample.index(metadata[episode.id]["crystal"])
        edges = episode.observations["edges"]
        assert (edges == edges[0]).all()
        n = int((edges[0, :, 0] >= 0).sum())
        np.testing.assert_array_equal(edges[0, :n], sample.skeleton(row).edges)


def test_a_policy_is_trained_on_masked_sites(sample, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    name = build_dataset(
        sample, "train", trajectories=1, vocabulary=sample.vocabulary, progress=False
    )
    data = load_transitions(name, progress=False)
    small = {"hidden": 32, "crystal": 32, "crystal_layers": 1, "orbit_layers": 1, "site_layers": 1}
    recipe = Recipe(
        "mpnn",
        small | {"dropout": 0.0},
        epochs=25,
        skeletons=25,
        states=2,
        learning_rate=0.02,
        optimizer="muon",
        traversals="masked",
        average=0.0,
    )
    policy = train(TrainingConfig(tmp_path / "run", recipe), data, progress=False)
    report = evaluate({"mpnn": [policy]}, sample, "train", n_start_sites=1, progress=False)
    accuracy = {name: row.metrics["accuracy_sites"].mean for name, row in report.rows.items()}
    assert accuracy["mpnn"] > accuracy["most frequent per site"] > accuracy["uniform"]


def test_the_pretrained_policy_is_better_than_the_baselines(sample):
    report = evaluate(
        {"mpnn": [load_policy("mp-20/mpnn")]},
        sample,
        "val",
        mask="composition",
        n_crystals=50,
        n_start_sites=1,
        extra=ExtraMetrics(by=("class", "crystal_system"), structure_matcher=True, beam=4),
        progress=False,
    )
    rows = {name: row.metrics for name, row in report.rows.items()}
    # On all of val, the policy has 58 % and 67 % of all sites.
    assert rows["mpnn"]["accuracy"].mean > 0.45
    assert rows["mpnn"]["accuracy_sites"].mean > 0.55
    assert rows["mpnn"]["accuracy"].mean > rows["nearest skeleton"]["accuracy"].mean + 0.2
    known = rows["mpnn, masked"]
    assert known["accuracy"].mean > rows[RANDOM_ASSIGNMENT]["accuracy"].mean + 0.25
    assert known["beam"].mean > 0.7 > rows[RANDOM_ASSIGNMENT]["beam"].mean
    classes = report.rows["mpnn"].groups["class"]
    assert classes["anion"].metrics["accuracy"].mean > classes["metal"].metrics["accuracy"].mean


def test_fillings_of_many_crystals_are_those_of_single_ones(sample):
    policy = load_policy("mp-20/mpnn")
    rows = sample.in_split("test")[:12].tolist()
    structures = [sample.structure(row) for row in rows]
    together = policy.fill_all(structures, exclude=["O"])
    for structure, fillings in zip(structures, together, strict=True):
        (alone,) = policy.fill(structure, exclude=["O"])
        assert alone.structure == fillings[0].structure
        assert alone.log_probability == pytest.approx(fillings[0].log_probability, abs=1e-3)
        assert "O" not in {site.specie.symbol for site in alone.structure}
