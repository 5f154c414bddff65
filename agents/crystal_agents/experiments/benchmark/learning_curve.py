"""Online learning with a held-out return at regular steps."""

from collections.abc import Callable

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from crystal_agents.experiments.benchmark.task import BenchmarkTask, Curve, RunResult
from crystal_agents.online.algorithms import get_features_extractor
from crystal_agents.online.fine_tuning import NEVER
from crystal_agents.policies.policy import PolicyScorer
from crystal_gym.utils.progress import progress_bar


def learn_with_curve(task: BenchmarkTask, model: BaseAlgorithm, mask: str) -> RunResult:
    """Let a model learn for the plan's steps.

    Args:
        arena: plan and reward.
        model: of ``warm_start`` or ``from_scratch``.
        mask: under which it fills.
    """
    # The network that acts, which learns on while the scorer stays.
    score = PolicyScorer(get_features_extractor(model.policy).network, task.table)
    with progress_bar("Learning", task.config.steps, shown=True) as advance:
        watch = EvalCallback(task, score, mask, advance)
        model.learn(task.config.steps, callback=watch, log_interval=NEVER)
    watch.measure()
    return RunResult(score, watch.curve)


class EvalCallback(BaseCallback):
    """Measures at the beginning of rollouts, when all that was collected has been learned from."""

    def __init__(
        self, task: BenchmarkTask, score: PolicyScorer, mask: str, advance: Callable[..., None]
    ) -> None:
        super().__init__()
        self.task, self.score, self.mask, self.advance = task, score, mask, advance
        self.curve: Curve = []

    def measure(self) -> None:
        """Add a point to the curve."""
        config = self.task.config
        metrics = self.task.measure(self.score, "val", self.mask, config.curve_crystals)
        if not self.curve or self.curve[-1][0] < self.num_timesteps:
            self.curve.append((self.num_timesteps, metrics["return"]))

    def _on_rollout_start(self) -> None:
        if not self.curve or self.num_timesteps - self.curve[-1][0] >= self.task.config.every:
            self.measure()

    def _on_step(self) -> bool:
        self.advance(self.training_env.num_envs)
        return True
