"""Online learning with the return on the val split measured at regular intervals."""

from collections.abc import Callable

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from crystal_agents.experiments.benchmark.counted_reward import CountedReward
from crystal_agents.experiments.benchmark.task import BenchmarkTask, Curve, RunResult
from crystal_agents.online.critic_warm_up import get_features_extractor
from crystal_agents.online.fine_tuning import NEVER
from crystal_agents.policies.policy import PolicyScorer
from crystal_gym.utils.progress import progress_bar


def learn_with_curve(
    task: BenchmarkTask, model: BaseAlgorithm, reward: CountedReward, mask: str
) -> RunResult:
    """Train a model for the number of steps in the config and record its learning curve.

    Args:
        task: The benchmark task.
        model: Model of ``warm_start`` or ``from_scratch``.
        reward: The reward of the model's environment.
        mask: Name of the action mask under which the model is evaluated.

    Returns:
        The greedy policy of the trained model, with the learning curve.
    """
    # The scorer reads the weights of the acting network, which training updates in place.
    score = PolicyScorer(get_features_extractor(model.policy).network, task.table)
    with progress_bar("Learning", task.config.steps, shown=True) as advance:
        callback = EvalCallback(task, score, reward, mask, advance)
        model.learn(task.config.steps, callback=callback, log_interval=NEVER)
    callback.measure()
    return RunResult(score, callback.curve, callback.oracle_calls)


class EvalCallback(BaseCallback):
    """Callback that measures the return on the val split and advances the progress bar.

    It measures at the start of a rollout, when the model has learned from all collected steps.

    Args:
        task: The benchmark task.
        score: Scorer of the acting network.
        reward: The reward of the environment in which the model learns.
        mask: Name of the action mask.
        advance: Advances the progress bar by a number of steps.

    Attributes:
        curve: The learning curve so far.
        oracle_calls: Oracle calls before each of its points.
    """

    def __init__(
        self,
        task: BenchmarkTask,
        score: PolicyScorer,
        reward: CountedReward,
        mask: str,
        advance: Callable[..., None],
    ) -> None:
        super().__init__()
        self.task, self.score, self.mask, self.advance = task, score, mask, advance
        self.reward = reward
        self.curve: Curve = []
        self.oracle_calls: list[int] = []

    def measure(self) -> None:
        """Append a point to the curve unless it already has one at this step."""
        config = self.task.config
        metrics = self.task.measure(self.score, "val", self.mask, config.curve_crystals)
        if not self.curve or self.curve[-1][0] < self.num_timesteps:
            self.curve.append((self.num_timesteps, metrics["return"]))
            self.oracle_calls.append(self.reward.oracle_calls)

    def _on_rollout_start(self) -> None:
        if not self.curve or self.num_timesteps - self.curve[-1][0] >= self.task.config.every:
            self.measure()

    def _on_step(self) -> bool:
        self.advance(self.training_env.num_envs)
        return True
