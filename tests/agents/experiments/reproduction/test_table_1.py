"""Table 1: runs are executed once and never mixed; the report needs only the results file."""

import dataclasses
import json

import numpy as np
import pytest
from matplotlib.image import imread
from training_runs import limit_epochs

from crystal_agents.cli import main as cli
from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.experiments.reproduction import runner as runs
from crystal_agents.experiments.reproduction import table_1_report
from crystal_agents.experiments.reproduction.experiment import PAPER_EPOCHS
from crystal_agents.experiments.reproduction.results import (
    AccuracyCurve,
    ReproductionRecord,
    results_file,
)
from crystal_agents.experiments.reproduction.table_1 import TABLE_1, VARIANTS
from crystal_agents.training import loop
from crystal_agents.training.recipes import get_recipe
from crystal_gym.errors import DamagedFileError


def record(variant="gcn-5", seed=0, epochs=1000, accuracy=0.5, **changes):
    """Return a record with the name of Perov-5."""
    learns = variant != "random"
    values = {
        "network": variant.partition("-")[0] if learns else None,
        "trajectories": 5,
        "transitions": 100,
        "precision": "32-true" if learns else None,
        "collection": "perov-5",
        "collection_sha256": "ab" * 32,
        "n_crystals": 3785,
        "metrics": {
            "accuracy": MeanWithCI(accuracy, accuracy - 0.02, accuracy + 0.04),
            "validity_smact14": MeanWithCI(0.9, 0.89, 0.91),
        },
        "curve": AccuracyCurve([1, 2], [0.1, accuracy], [0.1, accuracy / 2]) if learns else None,
        "seconds": 600.0,
        "transitions_per_second": 10.0,
        "hardware": "a processor, 1 thread",
        "versions": {"torch": "2", "smact": "4.0.2"},
        "date": "2026-01-01T00:00:00+00:00",
    }
    return ReproductionRecord(
        **{"variant": variant, "seed": seed, "epochs": epochs, **values, **changes}
    )


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


def test_missing_datasets_are_reported_with_the_command_that_builds_them(
    reproduce, minari_folder, monkeypatch, tmp_path
):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "empty"))
    code, _, err = reproduce("--variants", "gcn-5", "--seeds", 0, "--epochs", 1)
    assert code == 2
    assert "Run `crystal-gym build-dataset" in err
    assert not (tmp_path / "reproduction" / "table-1.json").exists()


@pytest.mark.usefixtures("built")
def test_interrupted_experiment_resumes_and_repeats_no_run(reproduce, tmp_path, monkeypatch):
    trained = []

    def train(config, *data, **options):
        if len(trained) == 1:
            trained.append("interrupted")
            raise KeyboardInterrupt
        trained.append(config.run.name)
        return original(config, *data, **options)

    original = runs.train
    monkeypatch.setattr(runs, "train", train)
    command = ("--variants", "gcn-5", "random", "egnn-1", "--seeds", 0, "--epochs", 2)
    code, _, err = reproduce(*command)
    assert code == 130
    assert "Rerun the same command to resume" in err
    folder = tmp_path / "reproduction"
    assert [r.variant for r in results_file(folder / "table-1.json").load()] == ["gcn-5", "random"]

    code, out, _ = reproduce(*command)
    assert code == 0
    assert "egnn-1, seed 0: accuracy" in out
    assert trained == ["gcn-5-seed-0-epochs-2", "interrupted", "egnn-1-seed-0-epochs-2"]
    records = results_file(folder / "table-1.json").load()
    assert [r.variant for r in records] == ["gcn-5", "random", "egnn-1"]
    gcn = records[0]
    assert (gcn.epochs, gcn.network, gcn.trajectories, gcn.n_crystals) == (2, "gcn", 5, 4)
    assert gcn.curve is not None
    assert gcn.curve.epoch == [1, 2]
    assert 0 <= gcn.metrics["validity_smact14"].mean <= 1
    assert records[2].transitions < gcn.transitions
    assert records[1].curve is None
    assert (folder / "table-1.md").read_text().count("\n| ") == 5  # Headings, rule, three rows.
    assert {path.name for path in folder.glob("*.png")} == {
        "figure-2a-epochs-2.png",
        "figure-2b-epochs-2.png",
    }
    # The run is a policy like any other.
    policy = folder / "gcn-5-seed-0-epochs-2"
    assert cli.main(["evaluate", str(policy), "--no-baselines"]) == 0

    before = (folder / "table-1.json").read_bytes()
    code, again, _ = reproduce(*command)
    assert code == 0
    assert len(trained) == 3
    assert (folder / "table-1.json").read_bytes() == before
    assert "accuracy" in again
    assert "seed 0" not in again


def test_first_seed_of_all_variants_runs_first_with_the_settings_of_the_paper(
    toy_folder, tmp_path, monkeypatch
):
    requested = []

    def learn(context, variant, run, recipe, *, trajectories, seed):
        requested.append((run.name, recipe, trajectories, seed))
        return record(variant, seed, recipe.epochs, collection_sha256=context.sha256)

    def evaluate_uniform(context, variant, seed):
        requested.append(seed)
        return record(variant, seed, 0, collection_sha256=context.sha256)

    monkeypatch.setattr(runs.RunContext, "learn", learn)
    monkeypatch.setattr(runs.RunContext, "evaluate_uniform", evaluate_uniform)
    context = runs.RunContext(tmp_path, str(toy_folder), progress=False)
    variants = ("egnn-3", "gcn-5", "random")
    assert len(list(TABLE_1.reproduce(context, variants, seeds=(0, 1)))) == 6
    egnn, gcn = get_recipe("egnn-paper"), get_recipe("gcn")
    assert requested == [
        *(("egnn-3-seed-0", egnn, 3, 0), ("gcn-5-seed-0", gcn, 5, 0), 0),
        *(("egnn-3-seed-1", egnn, 3, 1), ("gcn-5-seed-1", gcn, 5, 1), 1),
    ]

    # With other epochs only trained variants run again, in folders of their own.
    assert len(list(TABLE_1.reproduce(context, variants, seeds=(0, 1), epochs=3))) == 4
    shorter = dataclasses.replace(gcn, epochs=3)
    assert requested[7] == ("gcn-5-seed-0-epochs-3", shorter, 5, 0)
    assert not list(TABLE_1.reproduce(context, variants, seeds=(1, 0)))


@pytest.mark.usefixtures("built")
def test_the_time_limit_ends_the_command_and_a_rerun_resumes(reproduce, tmp_path, monkeypatch):
    monkeypatch.setattr(table_1_report, "save_plots", lambda *_: [])
    command = ("--variants", "gcn-5", "--seeds", 0, 1, "--epochs", 2, "--time-limit", 1e6)
    with monkeypatch.context() as patch:
        limit_epochs(patch, loop, 1)
        code, out, err = reproduce(*command)
    assert (code, err) == (0, "")
    assert "ended the run gcn-5-seed-0-epochs-2 after 1 of 2 epochs" in out
    assert "Rerun the same command to resume" in out
    history = tmp_path / "reproduction" / "gcn-5-seed-0-epochs-2" / "metrics.csv"
    first = history.read_text().splitlines()[1]
    assert not (tmp_path / "reproduction" / "table-1.json").exists()

    code, out, _ = reproduce(*command)
    assert code == 0
    assert out.index("gcn-5, seed 0: accuracy") < out.index("gcn-5, seed 1: accuracy")
    assert history.read_text().splitlines()[1].rstrip(",") == first


@pytest.mark.parametrize("limit", [0, -1, "nan"])
def test_time_limits_are_positive(reproduce, limit):
    code, _, err = reproduce("--time-limit", limit)
    assert code == 2
    assert "Expected a time limit above 0 s" in err


@pytest.mark.usefixtures("built")
def test_fixed_shapes_require_skeletons_of_one_size(reproduce):
    code, _, err = reproduce("--variants", "gcn-5", "--seeds", 0, "--fixed-shapes", "on")
    assert code == 2
    assert "one number of sites" in err


@pytest.mark.usefixtures("built")
def test_results_on_other_crystals_are_rejected(reproduce, tmp_path):
    path = tmp_path / "reproduction" / "table-1.json"
    results_file(path).append(record("random", epochs=0))
    before = path.read_bytes()
    code, _, err = reproduce("--variants", "random", "--seeds", 0)
    assert code == 2
    assert "results on other crystals" in err
    assert path.read_bytes() == before


def test_damaged_results_are_reported_and_kept(reproduce, tmp_path):
    path = tmp_path / "reproduction" / "table-1.json"
    results_file(path).append(record("gcn-5"))
    complete = path.read_text()
    without_seed = json.loads(complete)
    del without_seed[0]["seed"]
    for damaged in (complete[:-20], "{}", "[1]", json.dumps(without_seed)):
        path.write_text(damaged)
        for argv in (("--variants", "random"), ("--report-only",)):
            code, _, err = reproduce(*argv)
            assert code == 2
            assert "table-1.json, got" in err
            assert "a rerun then evaluates the trained policies again" in err
        with pytest.raises(DamagedFileError):
            results_file(path).append(record("gcn-5", seed=1))
        assert path.read_text() == damaged


def test_records_are_restored(tmp_path):
    path = tmp_path / "results.json"
    written = [record("egnn-1"), record("random", epochs=0), record("gcn-5", seed=3)]
    for saved in written:
        results_file(path).append(saved)
    assert results_file(path).load() == written
    assert [entry["variant"] for entry in json.loads(path.read_text())] == [
        *("egnn-1", "random", "gcn-5")
    ]


def test_variants_have_the_settings_and_values_of_the_paper():
    found = {
        name: (variant.recipe, variant.trajectories, variant.accuracy, variant.validity)
        for name, variant in VARIANTS.items()
        if not variant.optional
    }
    assert TABLE_1.default == list(found)
    assert found == {
        "egnn-1": ("egnn-paper", 1, 44.12, 96.08),
        "egnn-3": ("egnn-paper", 3, 47.65, 96.48),
        "egnn-5": ("egnn-paper", 5, 49.53, 96.75),
        "gcn-5": ("gcn", 5, 37.06, 95.03),
        "random": (None, 0, 1.78, 82.20),
    }
    for name in ("egnn-paper", "gcn"):
        assert get_recipe(name).epochs == PAPER_EPOCHS
    for name, column in found.items():
        code = VARIANTS.get(f"{name}-code")
        assert (code is None) == (column[0] is None)
        if code is not None:
            assert (code.recipe, code.trajectories, code.accuracy, code.validity) == column


def test_runs_of_different_settings_are_never_averaged():
    accuracies = {1000: (0.4, 0.5, 0.6), 20: (0.2, 0.3), 1: (0.1,)}
    records = [
        record("egnn-5", seed, epochs, accuracy)
        for epochs, values in accuracies.items()
        for seed, accuracy in enumerate(values)
    ]
    records.insert(1, record("random", epochs=0, accuracy=0.02))
    records.insert(2, record("egnn-5", 0, 1000, 0.9, precision="bf16-mixed"))
    groups = TABLE_1.groups(records)
    assert [(group.variant, group.epochs, group.precision) for group in groups] == [
        ("egnn-5", 1000, "32-true"),
        ("egnn-5", 1000, "bf16-mixed"),
        ("egnn-5", 20, "32-true"),
        ("egnn-5", 1, "32-true"),
        ("random", 0, None),
    ]
    for group in groups:
        if group.precision == "32-true":
            mean = group.mean("accuracy")
            assert mean is not None
            values = accuracies[group.epochs]
            assert mean.mean == pytest.approx(np.mean(values))
            if len(values) > 1:  # The interval is over runs.
                assert min(values) <= mean.low < mean.mean < mean.high <= max(values)
    # The interval of a single run is over crystals.
    assert groups[3].mean("accuracy") == records[-1].metrics["accuracy"]
    assert groups[0].mean("teacher_forced") is None


def test_table_has_the_values_of_the_paper_and_the_meaning_of_intervals():
    records = [
        *(record("egnn-5", seed, 20, 0.3 + seed / 100) for seed in range(3)),
        record("gcn-5", 0, 20, 0.25),
        record("random", 0, 0, 0.02),
    ]
    table = table_1_report.build_table(records)
    rows = {row[0]: row for row in table.rows}
    egnn, gcn, random = rows.values()
    assert list(rows) == ["EGNN, 5 trajectories", "GCN, 5 trajectories", "random"]
    assert egnn[1:3] == ("20", "3")
    assert egnn[3].startswith("31.00 ± ")
    assert (egnn[4], egnn[6], egnn[8]) == ("49.53", "96.75", "runs")
    assert (gcn[2], gcn[3], gcn[4], gcn[8]) == ("1", "25.00 ± 3.00", "37.06", "crystals")
    assert (random[1], random[4], random[6]) == ("", "1.78", "82.20")
    assert any("17.8" in note for note in table.notes)
    assert any("rule smact14 (SMACT 4.0.2, " in note for note in table.notes)

    lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + len(rows)


def test_values_of_the_paper_are_shown_for_its_collection_only():
    table = table_1_report.build_table([record("random", 0, 0, 0.02, collection="mp-20")])
    assert "paper" not in table.headings
    assert not any("paper" in note.lower() for note in table.notes)


def test_report_only_needs_the_results_file_alone(reproduce, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "empty"))
    code, _, err = reproduce("--report-only")
    assert code == 2
    assert "found none" in err

    folder = tmp_path / "reproduction"
    path = folder / "table-1.json"
    for variant in ("egnn-1", "egnn-5"):
        for seed in range(2):
            results_file(path).append(record(variant, seed))
    results_file(path).append(record("gcn-5", epochs=20))
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


def test_curve_has_as_many_accuracies_as_epochs():
    with pytest.raises(ValueError, match="got 1 and 2 for 2 epochs"):
        AccuracyCurve([1, 2], [0.1], [0.1, 0.2])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--variants", "gcn"), "Did you mean 'gcn-5'?"),
        (("--variants", "gcn-5", "--epochs", 0), "Expected epochs to be at least 1"),
    ],
)
@pytest.mark.usefixtures("built")
def test_invalid_arguments_end_with_exit_code_2(reproduce, argv, message):
    code, _, err = reproduce(*argv)
    assert code == 2
    assert message in err


def test_unknown_experiment_names_the_known_ones(capsys):
    assert cli.main(["reproduce", "table1"]) == 2
    assert "Did you mean 'table-1'?" in capsys.readouterr().err


def test_variant_of_another_experiment_is_rejected(tmp_path):
    path = tmp_path / "table-1.json"
    results_file(path).append(dataclasses.replace(record(), variant="no-coordinates"))
    with pytest.raises(DamagedFileError, match="no-coordinates"):
        TABLE_1.load(tmp_path)
