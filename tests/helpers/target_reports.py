"""Small reports of evaluations of conditional policies."""

import dataclasses
import json

from crystal_agents.evaluation.targets import TargetReport, TargetRow


def report(shift, asked=(0.0, 1.0), **changes):
    """Return the report of a seed, whose measured values are the requested ones plus a shift."""
    metrics = {"labeled": 1.0, "validity_strict": 0.9, "unique": 0.5 - shift / 10, "return": shift}
    rows = [TargetRow(None, 0.0, 0.5, 0.3, float("nan"), metrics)]
    rows += [TargetRow(value, 1.0, value + shift, 0.2, abs(shift), metrics) for value in asked]
    fields = {
        "label": "heat", "split": "val", "n_crystals": 10, "rows": rows,
        "correlation": {1.0: 1.0}, "reward": "match", "labels_sha256": "0",
    }  # fmt: skip
    return TargetReport(**{**fields, **changes})


def write(folder, *reports):
    paths = [folder / f"{i}.json" for i in range(len(reports))]
    for path, item in zip(paths, reports, strict=True):
        path.write_text(json.dumps(dataclasses.asdict(item)))
    return paths
