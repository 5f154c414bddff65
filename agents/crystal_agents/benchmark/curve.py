"""Online learning with a held-out return at regular steps."""

from collections.abc import Callable

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from crystal_agents.benchmark.arena import Arena
from crystal_agents.benchmark.contestants import Curve, Outcome
from crystal_agents.online.algorithms import extractor_of
from crystal_agents.online.fine_tuning import NEVER
from crystal_agents.rollouts import PolicyScorer
from crystal_gym.progress import progress_bar


def learn_with_curve(arena: Arena, model: BaseAlgorithm, mask: str) -> Outcome:
    """Let a model learn for the plan's steps.

    Args:
        arena: plan and reward.
        model: of ``warm_start`` or ``from_scratch``.
        mask: under which it fills.
    """
    # The network that acts, which learns on while the scorer stays.
    score = PolicyScorer(extractor_of(model.policy).network, arena.table)
    with progress_bar("Learning", arena.plan.steps, shown=True) as advance:
        watch = _Watch(arena, score, mask, advance)
        model.learn(arena.plan.steps, callback=watch, log_interval=NEVER)
    watch.measure()
    return Outcome(score, watch.curve)


class _Watch(BaseCallback):
    """Measures at the beginning of rollouts, when all that was collected has been learned from."""

    def __init__(
        self, arena: Arena, score: PolicyScorer, mask: str, advance: Callable[..., None]
    ) -> None:
        super().__init__()
        self.arena, self.score, self.mask, self.advance = arena, score, mask, advance
        self.curve: Curve = []

    def measure(self) -> None:
        """Add a point to the curve."""
        plan = self.arena.plan
        figures = self.arena.measure(self.score, "val", self.mask, plan.curve_crystals)
        if not self.curve or self.curve[-1][0] < self.num_timesteps:
            self.curve.append((self.num_timesteps, figures["return"]))

    def _on_rollout_start(self) -> None:
        if not self.curve or self.num_timesteps - self.curve[-1][0] >= self.arena.plan.every:
            self.measure()

    def _on_step(self) -> bool:
        self.advance(self.training_env.num_envs)
        return True
