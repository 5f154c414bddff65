"""Check the training script of rl-zoo3."""

import csv
import subprocess
import sys
from pathlib import Path

from common import SEED, Check, expect, run

ENV_ID = "CrystalSkeleton-v0"


def train() -> str:
    """Train PPO with the zoo's command line and read the evaluations that it wrote."""
    subprocess.run(  # noqa: S603 - the interpreter of this environment
        [
            sys.executable,
            *("-W", "ignore", "-m", "rl_zoo3.train", "--algo", "ppo", "--env", ENV_ID),
            *("--gym-packages", "crystal_gym"),
            *("--n-timesteps", "400", "--eval-freq", "200", "--eval-episodes", "4"),
            *("--seed", str(SEED), "--device", "cpu", "--num-threads", "1"),
            *("--conf-file", str(_configuration())),
        ],
        check=True,
        stdout=sys.stderr,
    )
    monitor = next(Path("logs").rglob("0.monitor.csv"))
    with monitor.open() as file:
        file.readline()
        rows = list(csv.DictReader(file))
    expect(all(row["l"] == "5" for row in rows), "episodes of another length than five")
    expect(all(0 <= float(row["r"]) <= 1 for row in rows), "a return outside [0, 1]")
    model = next(Path("logs").rglob("best_model.zip"))
    expect(model.stat().st_size > 0, "no model")
    return f"{len(rows)} episodes and the best model are in the zoo's logs"


def _configuration() -> Path:
    """Write the hyperparameters, one entry per environment as the zoo expects."""
    path = Path("ppo.yml")
    path.write_text(
        f"{ENV_ID}:\n  n_envs: 2\n  n_timesteps: 400\n  policy: MultiInputPolicy\n"
        "  n_steps: 20\n  batch_size: 20\n"
    )
    return path


run(
    "rl-zoo3", [Check("`rl_zoo3.train`", train, "`--gym-packages crystal_gym` and hyperparameters")]
)
