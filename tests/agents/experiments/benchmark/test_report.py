"""Tables of a benchmark and the statistics in them."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crystal_agents.evaluation.statistics import aggregate
from crystal_agents.experiments.benchmark.methods import METHODS
from crystal_agents.experiments.benchmark.report import build_tables, save_curves
from crystal_agents.experiments.benchmark.results import load_results


@given(
    st.lists(st.lists(st.floats(-5, 5), min_size=2, max_size=6), min_size=1, max_size=3),
    st.floats(-3, 3),
)
def test_interval_contains_the_mean_and_shifts_with_the_scores(strata, shift):
    strata = [np.array(stratum) for stratum in strata]
    estimate = aggregate(strata)
    shifted = aggregate([stratum + shift for stratum in strata])
    assert estimate.low - 1e-9 <= estimate.mean <= estimate.high + 1e-9
    expected = [estimate.mean + shift, estimate.low + shift, estimate.high + shift]
    np.testing.assert_allclose([shifted.mean, shifted.low, shifted.high], expected, atol=1e-6)


def test_resamples_keep_every_stratum():
    # Resampled from all runs together, the mean of two distant tasks would vary far more.
    distant = aggregate([np.array([0.0, 0.1] * 3), np.array([100.0, 100.1] * 3)])
    assert distant.high - distant.low < 0.2


def test_table_has_a_row_for_every_method(small, folder):
    (table,) = build_tables(load_results(folder))
    assert [row[0] for row in table.rows] == [
        METHODS[name].title for name in METHODS if name in small.methods
    ]
    text = table.markdown()
    assert "validity-strict on goldschmidt" in text
    assert "steps to BC" in text


def test_undefined_values_are_counted_in_a_note(folder):
    records = load_results(folder)
    (table,) = build_tables(records)
    assert not any("undefined" in note for note in table.notes)
    counts = {"match/n_missing": 3, "hidden/n_missing": 9}
    records[1] = dataclasses.replace(records[1], metrics=records[1].metrics | counts)
    (table,) = build_tables(records)
    (note,) = (note for note in table.notes if "undefined" in note)
    assert note.endswith("left out: match (up to 3).")


def test_a_note_defines_the_validity_by_the_runs_that_report_it(folder):
    records = load_results(folder)
    first = dataclasses.replace(records[0], versions={"smact": "4.9.9"})
    others = [
        dataclasses.replace(
            record,
            metrics={k: v for k, v in record.metrics.items() if k != "validity_strict"},
        )
        for record in records[1:]
    ]
    (table,) = build_tables([first, *others])
    assert sum("rule strict (SMACT 4.9.9, " in note for note in table.notes) == 1
    (table,) = build_tables(others)
    assert not any("Validity" in note for note in table.notes)


def test_titles_of_methods_are_distinct():
    assert len({method.title for method in METHODS.values()}) == len(METHODS)


def test_steps_to_the_final_return_of_scratch_training_are_reported(folder):
    warm = next(record for record in load_results(folder) if record.method == "dqn-warm")
    warm = dataclasses.replace(warm, curve=[(0, 0.5), (160, 0.6), (320, 0.9)])
    scratch = [
        dataclasses.replace(warm, method="dqn", seed=seed, curve=[(0, 0.0), (320, final)])
        for seed, final in enumerate((0.55, 0.6, 0.65))
    ]
    (table,) = build_tables([warm, *scratch])
    by_title = {row[0]: dict(zip(table.headings, row, strict=True)) for row in table.rows}
    assert by_title["DQN, warm start"]["steps to scratch"] == "160"
    assert by_title["DQN, warm start"]["steps to BC"] == "0"
    assert by_title["DQN, warm start"]["lowest against BC"] == "+0.100"
    assert by_title["DQN from scratch"]["steps to scratch"] == ""
    assert by_title["DQN from scratch"]["steps to BC"] == "320"


def test_rewards_are_combined_on_one_scale(folder):
    records = load_results(folder)
    other = [dataclasses.replace(record, reward="match") for record in records]
    normalized = build_tables([*records, *other])[-1]
    scale = {row[0]: row[1] for row in normalized.rows}
    assert scale["uniform"].startswith("0.000")
    assert scale["BC"].startswith("1.000")


def test_rewards_on_which_cloning_is_not_above_uniform_are_left_out_of_the_scale(folder):
    def negated(record):
        value = -record.metrics["return"]
        return dataclasses.replace(
            record, reward="negated", metrics=record.metrics | {"return": value}
        )

    records = load_results(folder)
    other = [dataclasses.replace(record, reward="match") for record in records]
    inverted = [negated(record) for record in records]
    both = [*records, *other]
    complete = build_tables(both)[-1]
    reduced = build_tables([*both, *inverted])[-1]
    assert reduced.rows == complete.rows
    assert reduced.notes[-1] == "Left out because BC is not above uniform: negated."
    # A single reward has no table over all rewards.
    assert len(build_tables([*records, *inverted])) == 2


def test_curves_are_plotted_as_png(folder, tmp_path):
    path = save_curves(load_results(folder), tmp_path / "curves.png")
    assert path.read_bytes().startswith(b"\x89PNG")
