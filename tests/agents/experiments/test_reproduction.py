"""The paper's experiments: nothing is run twice or mixed, and all is drawn from one file."""

import dataclasses
import json

import numpy as np
import pytest
from matplotlib.image import imread

from crystal_agents.cli import main as cli
from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.experiments.reproduction import runner as runs
from crystal_agents.experiments.reproduction import table_1_report as drawing
from crystal_agents.experiments.reproduction.experiment import PAPER_EPOCHS
from crystal_agents.experiments.reproduction.results import (
    Curve,
    Record,
    append_record,
    load_records,
)
from crystal_agents.experiments.reproduction.table_1 import COLUMNS, TABLE_1
from crystal_agents.training.recipes import get_recipe
from crystal_gym.errors import DamagedFileError


def record(variant="gcn-5", seed=0, epochs=1000, accuracy=0.5, **changes):
    """A finished run on crystals that claim to be Perov-5."""
    learns = variant != "random"
    values = {
        "network": variant.partition("-")[0] if learns else None,
        "trajectories": 5,
        "transitions": 100,
        "precision": "32-true" if learns else None,
        "collection": "perov-5",
        "collection_sha256": "ab" * 32,
        "n_crystals": 3785,
        "figures": {
            "accuracy": MeanWithCI(accuracy, accuracy - 0.02, accuracy + 0.04),
            "validity_smact14": MeanWithCI(0.9, 0.89, 0.91),
        },
        "curve": Curve([1, 2], [0.1, accuracy], [0.1, accuracy / 2]) if learns else None,
        "seconds": 600.0,
        "transitions_per_second": 10.0,
        "hardware": "a processor, 1 thread",
        "versions": {"torch": "2"},
        "date": "2026-01-01T00:00:00+00:00",
    }
    return Record(variant, seed, epochs, **{**values, **changes})


@pytest.fixture(scope="module")
def minari_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("minari")


@pytest.fixture
def reproduce(toy_folder, minari_folder, tmp_path, monkeypatch, capsys):
    """Run `reproduce table-1` in this process on the toy crystals."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(minari_folder))
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        arguments = ("--collection", toy_folder, "--accelerator", "cpu", *argv)
        code = cli.main(["reproduce", "table-1", *map(str, arguments)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, " ".join(captured.err.split())

    return run


@pytest.fixture
def built(toy_folder, minari_folder, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(minari_folder))
    if not list(minari_folder.rglob("*.hdf5")):
        assert cli.main(["build-dataset", str(toy_folder), "--splits", "train", "val"]) == 0


def test_data_sets_that_are_not_built_are_named(reproduce, minari_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "empty"))
    code, _, err = reproduce("--variants", "gcn-5", "--seeds", 0, "--epochs", 1)
    assert code == 2
    assert "run `crystal-gym build-dataset" in err
    assert not (tmp_path / "reproduction" / "table-1.json").exists()


@pytest.mark.usefixtures("built")
def test_an_interrupted_experiment_goes_on_and_repeats_nothing(reproduce, tmp_path, monkeypatch):
    trained = []

    def train(args, *data, **options):
        if len(trained) == 1:
            trained.append("interrupted")
            raise KeyboardInterrupt
        trained.append(args.run.name)
        return original(args, *data, **options)

    original = runs.train
    monkeypatch.setattr(runs, "train", train)
    command = ("--variants", "gcn-5", "random", "egnn-1", "--seeds", 0, "--epochs", 2)
    code, _, err = reproduce(*command)
    assert code == 130
    assert "the same command goes on" in err
    folder = tmp_path / "reproduction"
    assert [r.variant for r in load_records(folder / "table-1.json")] == ["gcn-5", "random"]

    code, out, _ = reproduce(*command)
    assert code == 0
    assert "egnn-1, seed 0: accuracy" in out
    assert trained == ["gcn-5-seed-0-epochs-2", "interrupted", "egnn-1-seed-0-epochs-2"]
    records = load_records(folder / "table-1.json")
    assert [r.variant for r in records] == ["gcn-5", "random", "egnn-1"]
    gcn = records[0]
    assert (gcn.epochs, gcn.network, gcn.trajectories, gcn.n_crystals) == (2, "gcn", 5, 4)
    assert gcn.curve is not None
    assert gcn.curve.epoch == [1, 2]
    assert 0 <= gcn.metrics["validity_smact14"].mean <= 1
    assert records[2].transitions < gcn.transitions
    assert records[1].curve is None
    assert (folder / "table-1.md").read_text().count("\n| ") == 5  # headings, rule, three lines
    assert {path.name for path in folder.glob("*.png")} == {
        "figure-2a-epochs-2.png",
        "figure-2b-epochs-2.png",
    }
    # A policy like any other.
    policy = folder / "gcn-5-seed-0-epochs-2"
    assert cli.main(["evaluate", str(policy), "--no-floors"]) == 0

    before = (folder / "table-1.json").read_bytes()
    code, again, _ = reproduce(*command)
    assert code == 0
    assert len(trained) == 3
    assert (folder / "table-1.json").read_bytes() == before
    assert "accuracy" in again
    assert "seed 0" not in again


def test_seeds_go_before_columns_and_settings_are_the_paper_s(toy_folder, tmp_path, monkeypatch):
    asked = []

    def learn(context, variant, run, recipe, *, trajectories, seed):
        asked.append((run.name, recipe, trajectories, seed))
        return record(variant, seed, recipe.epochs, collection_sha256=context.sha256)

    def draw_uniformly(context, variant, seed):
        asked.append(seed)
        return record(variant, seed, 0, collection_sha256=context.sha256)

    monkeypatch.setattr(runs.RunContext, "learn", learn)
    monkeypatch.setattr(runs.RunContext, "draw_uniformly", draw_uniformly)
    context = runs.RunContext(tmp_path, str(toy_folder), progress=False)
    variants = ("egnn-3", "gcn-5", "random")
    assert len(list(TABLE_1.reproduce(context, variants, seeds=(0, 1)))) == 6
    egnn, gcn = get_recipe("egnn-paper"), get_recipe("gcn")
    assert asked == [
        *(("egnn-3-seed-0", egnn, 3, 0), ("gcn-5-seed-0", gcn, 5, 0), 0),
        *(("egnn-3-seed-1", egnn, 3, 1), ("gcn-5-seed-1", gcn, 5, 1), 1),
    ]

    # Of other epochs only what learns is run; it is another run than those before.
    assert len(list(TABLE_1.reproduce(context, variants, seeds=(0, 1), epochs=3))) == 4
    shorter = dataclasses.replace(gcn, epochs=3)
    assert asked[7] == ("gcn-5-seed-0-epochs-3", shorter, 5, 0)
    assert not list(TABLE_1.reproduce(context, variants, seeds=(1, 0)))


@pytest.mark.usefixtures("built")
def test_other_crystals_are_not_brought_together(reproduce, tmp_path):
    path = tmp_path / "reproduction" / "table-1.json"
    append_record(path, record("random", epochs=0))
    before = path.read_bytes()
    code, _, err = reproduce("--variants", "random", "--seeds", 0)
    assert code == 2
    assert "results on other crystals" in err
    assert path.read_bytes() == before


def test_a_damaged_file_is_told_and_left_as_it_is(reproduce, tmp_path):
    path = tmp_path / "reproduction" / "table-1.json"
    append_record(path, record("gcn-5"))
    whole = path.read_text()
    without_seed = json.loads(whole)
    del without_seed[0]["seed"]
    for damaged in (whole[:-20], "{}", "[1]", json.dumps(without_seed)):
        path.write_text(damaged)
        for argv in (("--variants", "random"), ("--report-only",)):
            code, _, err = reproduce(*argv)
            assert code == 2
            assert "table-1.json is damaged" in err
        with pytest.raises(DamagedFileError):
            append_record(path, record("gcn-5", seed=1))
        assert path.read_text() == damaged


def test_records_come_back_as_they_were(tmp_path):
    path = tmp_path / "results.json"
    written = [record("egnn-1"), record("random", epochs=0), record("gcn-5", seed=3)]
    for one in written:
        append_record(path, one)
    assert load_records(path) == written
    assert [entry["variant"] for entry in json.loads(path.read_text())] == [
        *("egnn-1", "random", "gcn-5")
    ]


def test_columns_are_learned_with_the_settings_of_the_paper():
    told = {
        name: (variant.recipe, variant.trajectories, variant.accuracy, variant.validity)
        for name, variant in COLUMNS.items()
    }
    assert told == {
        "egnn-1": ("egnn-paper", 1, 44.12, 96.08),
        "egnn-3": ("egnn-paper", 3, 47.65, 96.48),
        "egnn-5": ("egnn-paper", 5, 49.53, 96.75),
        "gcn-5": ("gcn", 5, 37.06, 95.03),
        "random": (None, 0, 1.78, 82.20),
    }
    for name in ("egnn-paper", "gcn"):
        assert get_recipe(name).epochs == PAPER_EPOCHS


def test_runs_of_different_settings_are_never_averaged():
    accuracies = {1000: (0.4, 0.5, 0.6), 20: (0.2, 0.3), 1: (0.1,)}
    records = [
        record("egnn-5", seed, epochs, accuracy)
        for epochs, values in accuracies.items()
        for seed, accuracy in enumerate(values)
    ]
    records.insert(1, record("random", epochs=0, accuracy=0.02))
    records.insert(2, record("egnn-5", 0, 1000, 0.9, precision="bf16-mixed"))
    lines = TABLE_1.lines(records)
    assert [(line.variant, line.epochs, line.precision) for line in lines] == [
        ("egnn-5", 1000, "32-true"),
        ("egnn-5", 1000, "bf16-mixed"),
        ("egnn-5", 20, "32-true"),
        ("egnn-5", 1, "32-true"),
        ("random", 0, None),
    ]
    for line in lines:
        if line.precision == "32-true":
            figure = line.figure("accuracy")
            assert figure is not None
            values = accuracies[line.epochs]
            assert figure.mean == pytest.approx(np.mean(values))
            if len(values) > 1:  # over runs
                assert min(values) <= figure.low < figure.mean < figure.high <= max(values)
    # Over the crystals of the single run.
    assert lines[3].figure("accuracy") == records[-1].metrics["accuracy"]
    assert lines[0].figure("teacher_forced") is None


def test_the_table_tells_the_paper_s_values_epochs_and_what_intervals_are_over():
    records = [
        *(record("egnn-5", seed, 20, 0.3 + seed / 100) for seed in range(3)),
        record("gcn-5", 0, 20, 0.25),
        record("random", 0, 0, 0.02),
    ]
    table = drawing.build_table(records)
    rows = {row[0]: row for row in table.rows}
    egnn, gcn, random = rows.values()
    assert list(rows) == ["EGNN, 5 trajectories", "GCN, 5 trajectories", "random"]
    assert egnn[1:3] == ("20", "3")
    assert egnn[3].startswith("31.00 ± ")
    assert (egnn[4], egnn[6], egnn[8]) == ("49.53", "96.75", "runs")
    assert (gcn[2], gcn[3], gcn[4], gcn[8]) == ("1", "25.00 ± 3.00", "37.06", "crystals")
    assert (random[1], random[4], random[6]) == ("", "1.78", "82.20")
    assert any("17.8" in note for note in table.notes)

    lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + len(rows)


def test_of_other_crystals_the_paper_tells_nothing():
    table = drawing.build_table([record("random", 0, 0, 0.02, collection="mp-20")])
    assert "paper" not in table.headings
    assert not any("paper" in note.lower() for note in table.notes)


def test_draw_only_needs_nothing_but_the_results(reproduce, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "empty"))
    code, _, err = reproduce("--report-only")
    assert code == 2
    assert "no results" in err

    folder = tmp_path / "reproduction"
    path = folder / "table-1.json"
    for variant in ("egnn-1", "egnn-5"):
        for seed in range(2):
            append_record(path, record(variant, seed))
    append_record(path, record("gcn-5", epochs=20))
    code, out, _ = reproduce("--report-only")
    assert code == 0
    assert "EGNN, 5 trajectories" in out
    assert (folder / "table-1.md").is_file()
    assert {image.name for image in folder.glob("*.png")} == {
        "figure-2a.png",
        "figure-2b.png",
        "figure-2b-epochs-20.png",
    }
    pixels = imread(folder / "figure-2a.png")
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 10


def test_a_curve_has_as_many_accuracies_as_epochs():
    with pytest.raises(ValueError, match="differ in number"):
        Curve([1, 2], [0.1], [0.1, 0.2])


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--variants", "gcn"), "Did you mean 'gcn-5'?"),
        (("--variants", "gcn-5", "--epochs", 0), "epochs must be at least 1"),
    ],
)
@pytest.mark.usefixtures("built")
def test_mistakes_end_with_2(reproduce, argv, told):
    code, _, err = reproduce(*argv)
    assert code == 2
    assert told in err


def test_an_unknown_experiment_names_the_known(capsys):
    assert cli.main(["reproduce", "table1"]) == 2
    assert "Did you mean 'table-1'?" in capsys.readouterr().err


def test_a_column_of_another_experiment_is_refused(tmp_path):
    path = tmp_path / "table-1.json"
    append_record(path, dataclasses.replace(record(), variant="no-coordinates"))
    with pytest.raises(DamagedFileError, match="no-coordinates"):
        TABLE_1.load(tmp_path)
