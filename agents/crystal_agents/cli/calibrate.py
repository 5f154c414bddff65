"""``crystal-gym calibrate RUN``: calibrate the probabilities of a trained policy on val."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from crystal_agents.cli.command import Command, console
from crystal_agents.cli.policy_collection import PolicyCollection


@dataclass
class Calibrate(Command):
    """Calibrate the probabilities of a trained policy by temperature scaling.

    The logits are divided by the temperature with the largest likelihood of the dataset expert-val,
    which `crystal-gym build-dataset` has written. The most probable elements do not change.
    """

    after_stop: ClassVar[str] = "Nothing was written."

    policy: tyro.conf.Positional[str]
    """Folder of a trained policy."""

    output: Path
    """Folder of the calibrated policy."""

    def run(self) -> None:
        """Calibrate the policy and print the temperature."""
        from crystal_agents.policies.policy import load_policy
        from crystal_agents.training.calibration import calibrate
        from crystal_agents.training.data import load_split
        from crystal_gym.errors import CrystalGymError

        if self.output.exists():
            raise CrystalGymError(
                f"Expected a new folder for --output, got {self.output}, which exists. Choose "
                "another one."
            )
        policy = load_policy(self.policy)
        chosen = PolicyCollection.of(policy, self.policy)
        data = load_split(chosen.load(), chosen.origin, "val", split_by=chosen.split_by)
        found = calibrate(policy, data)
        found.policy.save(self.output)
        console().print(
            f"Temperature {found.temperature:.3f}: the negative log-likelihood of an action on val "
            f"changes from {found.before:.4f} to {found.after:.4f}.\nPolicy: {self.output}",
            soft_wrap=True,
        )
