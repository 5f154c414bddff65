"""Policies that are averaged in a report are those that differ only in their seed."""

import dataclasses

from small_policies import small_policy

from crystal_agents.cli.evaluate import runs_by_name
from crystal_agents.policies.policy import SkeletonPolicy


def test_policies_are_averaged_only_over_seeds(toy, tmp_path):
    def trained(folder, **training):
        policy = small_policy(toy)
        config = dataclasses.replace(policy.config, training=training)
        return tmp_path / folder, SkeletonPolicy(config)

    def counts(runs):
        return {name: len(group) for name, group in runs_by_name(runs).items()}

    runs = dict(
        [
            trained("a", seed=0, epochs=3, val_accuracy=0.4),
            trained("b", seed=1, epochs=3, val_accuracy=0.5),
        ]
    )
    assert counts(runs) == {"egnn": 2}
    runs |= dict([trained("c", seed=1, epochs=4)])
    assert counts(runs) == {"egnn, a": 2, "egnn, c": 1}


def test_finetuned_policies_are_averaged_over_seeds_and_initial_policies(toy, tmp_path):
    """A fine-tuning stage records its own seed and initial policy."""

    def finetuned(folder, policy, seed, steps):
        stage = {"policy": policy, "seed": seed, "steps": steps}
        config = dataclasses.replace(
            small_policy(toy).config, training={"seed": seed, "finetuning": [stage]}
        )
        return tmp_path / folder, SkeletonPolicy(config)

    runs = dict([finetuned("d", "a", 0, 9), finetuned("e", "b", 1, 9), finetuned("f", "b", 1, 8)])
    counts = {name: len(group) for name, group in runs_by_name(runs).items()}
    assert counts == {"egnn, d": 2, "egnn, f": 1}
