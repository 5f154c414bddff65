"""The tables in the documents show the committed runs."""

import re
from pathlib import Path

import pytest

from crystal_agents.experiments.benchmark.config import load_benchmark_config
from crystal_agents.experiments.benchmark.methods import METHODS
from crystal_agents.experiments.benchmark.report import build_tables
from crystal_agents.experiments.benchmark.results import load_results, results_file
from crystal_agents.experiments.results_file import save_records
from crystal_agents.experiments.tables import Table

DOCS = Path(__file__).parents[4] / "docs"
RUNS = DOCS / "data" / "benchmark-perov-5"


def parse_rows(markdown):
    """Return the cells of the first Markdown table below its headings."""
    rows = []
    for line in markdown.splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        elif rows:
            break
    return rows[2:]


def normalized(cell):
    """Return a cell with hyphens as minus signs, and without the sign of a zero."""
    return re.sub(r"^-(?=0\.0+(?: |$))", "", cell.replace("−", "-"))


def mismatches(markdown, table):
    """Describe how a Markdown table differs from a table of results.

    Every row must have the title of its method as its label and the cells of that method's row.
    """
    expected = {row[0]: [normalized(cell) for cell in row[1:]] for row in table.rows}
    rows = parse_rows(markdown)
    titles = {method.title for method in METHODS.values()}
    found = [f"unknown label {row[0]!r}" for row in rows if row[0] not in titles]
    if [row[0] for row in rows] != list(expected):
        found.append(f"labels {[row[0] for row in rows]}, expected {list(expected)}")
    found += [
        f"{row[0]}: {row[1:]}, expected {expected[row[0]]}"
        for row in rows
        if row[0] in expected and [normalized(cell) for cell in row[1:]] != expected[row[0]]
    ]
    return found


@pytest.fixture(scope="module")
def tables():
    return build_tables(load_results(RUNS))


def test_benchmark_page_shows_the_committed_runs(tables):
    sections = (DOCS / "benchmark.md").read_text().split("<!-- table ")[1:]
    names = [section.split()[0] for section in sections]
    assert names == [*load_benchmark_config("perov-5").rewards, "all"]
    for section, table in zip(sections, tables, strict=True):
        assert not mismatches(section, table), table.title


def test_benchmark_page_shows_the_runs_with_site_numbers():
    section = (DOCS / "benchmark.md").read_text().split("<!-- indexed-table -->")[1]
    (table,) = build_tables(load_results(RUNS.with_name("benchmark-perov-5-indexed")))
    assert not mismatches(section, table)


def test_readme_shows_the_committed_runs(tables):
    """The README rounds the returns of the benchmark page; ``match`` is in percent."""
    lines = (DOCS.parent / "README.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if re.match(r"\| *\| *`match`", line))
    shown = re.findall(r"`([\w-]+)`", lines[start])
    by_reward = {
        table.title.split()[0]: {
            row[0]: dict(zip(table.headings, row, strict=True)) for row in table.rows
        }
        for table in tables[:-1]
    }
    returns = [by_reward[reward] for reward in shown]
    rows = parse_rows("\n".join(lines[start:]))
    assert len(rows) > 5
    for label, *cells in rows:
        match, *others = (by_title[label] for by_title in returns)
        exact = [match["match"], *(row["return"] for row in others)]
        for cell, value in zip(cells, exact, strict=True):
            assert is_rounded(normalized(cell), value), (label, cell, value)


def is_rounded(cell, exact):
    """Return whether a cell is a value with its interval, rounded to the cell's digits."""
    shown, values = ([*map(float, text.split(" ± "))] for text in (cell, exact))
    digits = len(cell.split(" ± ")[0].partition(".")[2])
    # The exact value is rounded, too.
    tolerance = 0.5 * 10**-digits + 0.5 * 10 ** -len(exact.split(" ± ")[0].partition(".")[2])
    mean_fits = abs(shown[0] - values[0]) <= tolerance + 1e-9
    half, shown_half = (numbers[1] if len(numbers) > 1 else 0.0 for numbers in (values, shown))
    return mean_fits and abs(half - shown_half) <= tolerance + 1e-9


@pytest.mark.parametrize(
    ("cell", "exact", "expected"),
    [
        ("37.7 ± 0.9", "37.67 ± 0.86", True),
        ("-3.58", "-3.575", True),
        ("37.6 ± 0.9", "37.67 ± 0.86", False),
        ("37.7 ± 0.8", "37.67 ± 0.86", False),
        ("37.7", "37.67 ± 0.86", False),
        ("37.7", "37.67", True),
        ("0.00", "-0.001 ± 0.001", True),
    ],
)
def test_rounded_cells_are_recognized(cell, exact, expected):
    assert is_rounded(cell, exact) == expected


EXAMPLE = Table(
    "",
    ("", "runs", "return", "steps to BC"),
    [("uniform", "5", "-0.000 ± 0.001", ""), ("BC", "1", "0.592", "10")],
    [],
)
SHOWN = """
| | runs | return | steps to BC |
| --- | ---: | ---: | ---: |
| uniform | 5 | 0.000 ± 0.001 | |
| BC | 1 | 0.592 | 10 |

| uniform | another table |
"""


def test_equal_tables_have_no_mismatch():
    assert mismatches(SHOWN, EXAMPLE) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.592", "0.593", "BC: "),
        ("| 10 |", "| |", "BC: "),
        ("| BC |", "| cloned policy |", "unknown label 'cloned policy'"),
        ("| BC | 1 | 0.592 | 10 |\n", "", "labels"),
        ("| BC |", "| uniform |", "labels"),
        ("| BC | 1 | 0.592 | 10 |", "| BC | 1 | 0.592 |", "BC: "),
    ],
)
def test_changed_tables_have_a_mismatch(old, new, message):
    assert old in SHOWN
    found = mismatches(SHOWN.replace(old, new), EXAMPLE)
    assert any(message in text for text in found)


def test_exchanged_labels_are_a_mismatch(tables):
    text = SHOWN.replace("| uniform |", "| ? |").replace("| BC |", "| uniform |")
    assert mismatches(text.replace("| ? |", "| BC |"), EXAMPLE)
    # Also with rows in the same order as their labels.
    rows = {"BC": "5 | 0.000 ± 0.001 | ", "uniform": "1 | 0.592 | 10"}
    lines = "\n".join(f"| {label} | {cells} |" for label, cells in rows.items())
    assert mismatches(f"| | a | b | c |\n| --- | --- | --- | --- |\n{lines}\n", EXAMPLE)
    for table in tables:
        assert mismatches(table.markdown(), table) == []
        first, second = table.rows[0][0], table.rows[-1][0]
        exchanged = {first: second, second: first}
        swapped = [(exchanged.get(row[0], row[0]), *row[1:]) for row in table.rows]
        assert mismatches(Table("", table.headings, swapped, []).markdown(), table)


def test_committed_runs_are_written_as_by_the_benchmark(tmp_path):
    path = tmp_path / "benchmark.json"
    save_records(path, load_results(RUNS))
    assert path.read_bytes() == results_file(RUNS).path.read_bytes()
