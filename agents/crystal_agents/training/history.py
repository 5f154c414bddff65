"""The history of a run: one CSV row of metrics for each epoch or evaluation."""

import csv
from pathlib import Path

from crystal_gym.utils.files import atomic_write

HISTORY_FILE = "metrics.csv"


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    """Write rows of metrics to a CSV file atomically.

    Args:
        path: The CSV file; an existing file is replaced.
        history: One mapping from column to value for each row. Missing values stay empty.

    Raises:
        StorageError: If the file cannot be written.
    """
    columns = list(dict.fromkeys(key for row in history for key in row))
    with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)
