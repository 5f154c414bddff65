"""Ablations: each variant changes one setting and is compared with the paper's network."""

import pytest

from crystal_agents.cli import main as cli
from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.experiments.reproduction import runner as runs
from crystal_agents.experiments.reproduction.ablations import (
    ABLATIONS,
    METRICS,
    VARIANTS,
    build_table,
    difference,
)
from crystal_agents.experiments.reproduction.results import (
    AccuracyCurve,
    ReproductionRecord,
    results_file,
)
from crystal_agents.experiments.reproduction.runner import RunContext
from crystal_agents.experiments.reproduction.table_1 import TABLE_1
from crystal_agents.networks.registry import encoder_settings


def record(variant, seed=0, accuracy=0.5, val=0.6, **changes):
    """Return a record with the name of Perov-5."""
    values = {
        "epochs": 1000,
        "network": "egnn-paper",
        "trajectories": 5,
        "transitions": 100,
        "precision": "32-true",
        "collection": "perov-5",
        "collection_sha256": "ab" * 32,
        "n_crystals": 3785,
        "metrics": {
            "accuracy": MeanWithCI(accuracy, accuracy - 0.03, accuracy + 0.03),
            "validity_smact14": MeanWithCI(0.9, 0.9, 0.9),
        },
        "curve": AccuracyCurve([1, 2], [0.1, 0.2], [0.1, val]),
        "seconds": 600.0,
        "transitions_per_second": 10.0,
        "hardware": "a processor, 1 thread",
        "versions": {"torch": "2", "smact": "4.0.2"},
        "date": "2026-01-01T00:00:00+00:00",
    }
    return ReproductionRecord(variant=variant, seed=seed, **{**values, **changes})


def test_variants_differ_from_the_base_in_one_setting():
    def settings_of(name):
        variant = VARIANTS[name]
        return {**encoder_settings("egnn-paper"), **variant.settings, "altered": variant.altered}

    base = settings_of("base")
    for name in VARIANTS:
        changed = [key for key, value in settings_of(name).items() if value != base[key]]
        assert len(changed) == (name != "base")


@pytest.fixture
def reproduce(toy_folder, tmp_path, monkeypatch, capsys):
    """Run `reproduce ablations` in this process on the toy crystals with their datasets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["build-dataset", str(toy_folder), "--splits", "train", "val"]) == 0

    def run(*argv):
        arguments = ("--collection", toy_folder, "--accelerator", "cpu", *argv)
        code = cli.main(["reproduce", "ablations", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, " ".join(captured.err.split())

    return run


def test_all_variants_run_once_and_the_base_is_shared_with_table_1(
    reproduce, tmp_path, monkeypatch
):
    trained = []

    def train(config, data, validation, **options):
        trained.append((config.run.name, data.dataset_id, validation.dataset_id))
        return original(config, data, validation, **options)

    original = runs.train
    monkeypatch.setattr(runs, "train", train)
    code, out, _ = reproduce("--seeds", 0, "--epochs", 1)
    assert code == 0
    folder = tmp_path / "reproduction"
    records = results_file(folder / "ablations.json").load()
    assert [r.variant for r in records] == list(VARIANTS)
    assert len({r.collection_sha256 for r in records}) == 1
    assert [name for name, *_ in trained] == [
        f"{'egnn-5' if name == 'base' else name}-seed-0-epochs-1" for name in VARIANTS
    ]
    for name, train_id, val_id in trained:
        assert ("-shuffled-" in train_id) == ("-shuffled-" in val_id) == ("node-order" in name)
    table = (folder / "ablations.md").read_text()
    for title in (variant.title for variant in VARIANTS.values()):
        assert title in table
        assert title in out

    before = (folder / "ablations.json").read_bytes()
    assert reproduce("--seeds", 0, "--epochs", 1)[0] == 0
    assert reproduce("--report-only")[0] == 0
    assert len(trained) == len(VARIANTS)
    assert (folder / "ablations.json").read_bytes() == before

    # Table 1 finds its run finished, and the shuffled datasets are built once.
    context = RunContext(folder, records[0].collection, "cpu", progress=False)
    (shared,) = TABLE_1.reproduce(context, ("egnn-5",), seeds=(0,), epochs=1)
    assert (shared.seconds, shared.metrics) == (records[0].seconds, records[0].metrics)
    shuffled = RunContext(folder, records[0].collection, "cpu", progress=False, altered="shuffled")
    assert shuffled.sha256 == context.sha256 == records[0].collection_sha256
    assert shuffled.collection.fingerprint() != context.sha256
    assert shuffled.validation.dataset_id == trained[1][2]


def test_invalid_arguments_end_with_exit_code_2(reproduce):
    code, _, err = reproduce("--variants", "nodeorder")
    assert code == 2
    assert "Did you mean 'node-order'?" in err
    code, _, err = reproduce("--report-only")
    assert code == 2
    assert "found none" in err


def test_changes_are_paired_by_seed():
    # Seeds differ far more than variants.
    level = {0: 0.3, 1: 0.5, 2: 0.7}
    base = [record("base", seed, level[seed]) for seed in (0, 1, 2)]
    other = [record("no-coordinates", seed, level[seed] - 0.02) for seed in (2, 1)]
    groups = ABLATIONS.groups([*other, *base])
    found = difference(groups[1], groups[0], METRICS["accuracy"])
    assert found is not None
    assert found.mean == pytest.approx(-0.02)
    assert found.high - found.low < 1e-9
    table = build_table([*other, *base])
    assert [row[0] for row in table.rows] == [
        "the paper's network (base)",
        "readout without coordinates",
    ]
    assert table.rows[0][1:3] == ("1,000", "3")
    assert table.rows[0][4] == ""
    assert table.rows[1][4].startswith("-2.00")


def test_change_of_a_single_seed_combines_the_intervals_of_both_runs():
    table = build_table(
        [record("base"), record("node-order", accuracy=0.54, val=0.55), record("base", 1, epochs=3)]
    )
    rows = {row[0]: row for row in table.rows[:2]}
    assert rows["the paper's network (base)"][3:9] == ("50.00 ± 3.00", "", "60.00", "", "90.00", "")
    changed = rows["sites numbered at random"]
    assert changed[3:9] == ("54.00 ± 3.00", "+4.00 ± 4.24", "55.00", "-5.00", "90.00", "+0.00")
    assert any("49.53" in note for note in table.notes)
    assert any("rule smact14 (SMACT 4.0.2, " in note for note in table.notes)


def test_no_change_is_reported_without_a_common_seed_and_setting():
    records = [
        record("base", 0),
        record("base", 1, epochs=3),
        record("node-order", 1),
        record("periodic-edges", 0, precision="bf16-mixed"),
    ]
    rows = build_table(records).rows
    assert len(rows) == 4
    assert {row[4] for row in rows} == {""}
    assert "all periodic edges, bf16-mixed" in [row[0] for row in rows]
    lines = [line for line in build_table(records).markdown().splitlines() if "|" in line]
    assert len({line.count("|") for line in lines}) == 1
