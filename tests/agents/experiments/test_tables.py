"""Tables of results as Markdown text."""

import pytest

from crystal_agents.evaluation.statistics import MeanWithCI
from crystal_agents.experiments.tables import Table, number, percent
from crystal_gym.errors import StorageError

TABLE = Table(
    "A title", ("", "runs", "return"), [("BC", "1", "0.5"), ("PPO", "5", "")], ["A note."]
)
MARKDOWN = """A title

|  | runs | return |
| --- | ---: | ---: |
| BC | 1 | 0.5 |
| PPO | 5 |  |

- A note.
"""


def test_markdown_has_title_rows_and_notes():
    assert TABLE.markdown() == MARKDOWN


def test_saved_table_is_its_markdown(tmp_path):
    path = TABLE.save(tmp_path / "new" / "table.md")
    assert path == tmp_path / "new" / "table.md"
    assert path.read_text() == MARKDOWN


def test_save_reports_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        TABLE.save(tmp_path / "file" / "table.md")


@pytest.mark.parametrize(
    ("estimate", "as_percent", "as_number"),
    [
        (None, "", ""),
        (MeanWithCI(0.4953, 0.4953, 0.4953), "49.53", "0.495"),
        (MeanWithCI(-0.25, -0.5, 0.25), "-25.00 ± 37.50", "-0.250 ± 0.375"),
        # Half the width of an asymmetric interval.
        (MeanWithCI(0.5, 0.49, 0.55), "50.00 ± 3.00", "0.500 ± 0.030"),
    ],
)
def test_estimates_have_half_the_width_of_their_interval(estimate, as_percent, as_number):
    assert percent(estimate) == as_percent
    assert number(estimate) == as_number
