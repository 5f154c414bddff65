"""Runs of the leaderboard from the output of ``crystal-gym evaluate --json``."""

from collections.abc import Mapping
from typing import Any

from crystal_agents.evaluation.evaluate import GROUND_TRUTH
from crystal_agents.experiments.leaderboard.record_runs import LeaderboardRun
from crystal_agents.experiments.leaderboard.tasks import TASKS
from crystal_agents.policies.pretrained import pretrained_policies
from crystal_gym.errors import CrystalGymError

# Baselines, and whether they use the training crystals.
_BASELINES = {
    "uniform": False,
    "most frequent element": True,
    "most frequent per site": True,
    "nearest skeleton": True,
}
_MASKED = ", masked"
# Masks that use no element of the true crystal.
_MASKS = ("none", "charge-neutral", "charge-neutral-common")


def evaluation_runs(report: Mapping[str, Any]) -> tuple[list[LeaderboardRun], list[str]]:
    """Return the rows of an evaluation as runs.

    Args:
        report: The content of the JSON file.

    Returns:
        A run for each baseline and each policy that is a row of its own, and why other rows are
        left out, one sentence for each.

    Raises:
        CrystalGymError: If the evaluation is not that of the task.
        KeyError, TypeError, AttributeError: If the content is no such report.
    """
    task = f"{report['collection']}/accuracy"
    if task in TASKS:
        _require_protocol(report, TASKS[task].start_sites)
    runs, left_out = [], []
    for row, content in report["rows"].items():
        if row == GROUND_TRUTH:
            continue
        baseline = row.removesuffix(_MASKED)
        policy = None if baseline in _BASELINES else _policy_of(row, report)
        if baseline not in _BASELINES and (policy is None or content["runs"] > 1):
            left_out.append(
                f"{row}: expected one policy in this row. Evaluate each policy in a report of its "
                "own and export all reports together."
            )
            continue
        training = report["policies"][policy] if policy else {}
        steps = None if training.get("finetuned") else 0
        runs.append(
            LeaderboardRun(
                task=task,
                method=_name(row, policy),
                seed=(training.get("seed") or 0) if policy else report["seed"],
                values={"accuracy": content["metrics"]["accuracy"]["mean"]},
                labels_sha256=None,
                expert_data=_BASELINES.get(baseline, True),
                environment_steps=steps,
                oracle_calls=steps,
                record=report,
            )
        )
    return runs, left_out


def _require_protocol(report: Mapping[str, Any], start_sites: int) -> None:
    keys = ("split", "start", "crystals", "n_start_sites")
    expected = dict(zip(keys, ("test", "empty", None, start_sites), strict=True))
    found = {key: report[key] for key in keys}
    if found != expected or report["mask"] not in _MASKS:
        got = ", ".join(f"{key} {value}" for key, value in found.items())
        raise CrystalGymError(
            f"Expected an evaluation on all crystals of test, from empty skeletons and "
            f"{start_sites} start sites, with a mask of {', '.join(_MASKS)}, got {got}, mask "
            f"{report['mask']}. Evaluate the policy again."
        )


def _policy_of(row: str, report: Mapping[str, Any]) -> str | None:
    """Return the policy of a row, or ``None`` if the row may belong to several policies."""
    policies = list(report["policies"])
    if len(policies) == 1:
        return policies[0]
    network = row.removesuffix(_MASKED)
    candidates = [
        policy
        for policy in policies
        if policy in pretrained_policies() and policy.rpartition("/")[2] == network
    ]
    return candidates[0] if len(candidates) == 1 else None


def _name(row: str, policy: str | None) -> str:
    """Return the name of the method: that of a pretrained policy, or the row."""
    if policy not in pretrained_policies():
        return row
    return policy + row.removeprefix(policy.rpartition("/")[2])
