"""Self-imitation: a policy that clones its best episodes (best-episode replay).

The policy makes the three decisions of a crystal one after another: A, then B given A, then the
anions given both. It is a small network on descriptors of the elements, not one of the
graph networks of ``crystal_agents.networks``. After every batch of new episodes it takes a step of
REINFORCE on the episodes of the batch and steps of cloning on its best episodes so far, as in
Oh et al., Self-Imitation Learning, ICML 2018.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.experiments.discovery.task import Search


@dataclass(frozen=True)
class SelfImitationSettings:
    """Settings of the self-imitation.

    Attributes:
        initial: Random crystals evaluated first.
        batch: New crystals per update.
        elite: Number of best episodes that are cloned.
        cloning_steps: Steps of cloning per update.
        learning_rate: Learning rate of Adam.
        entropy: Weight of the entropy of the policy.
        width: Width of embeddings and hidden layers.
        temperature: Temperature of the weights of cloned episodes, in units of the score.
        uniform: Probability that an episode is random, for exploration.
    """

    initial: int = 50
    batch: int = 20
    elite: int = 60
    cloning_steps: int = 5
    learning_rate: float = 0.01
    entropy: float = 0.02
    width: int = 32
    temperature: float = 0.05
    uniform: float = 0.1


class ThreeDecisionPolicy(nn.Module):
    """Distribution of crystals as p(A) p(B | A) p(anions | A, B).

    The logits of a cation are products of the state of the episode with an embedding of the cation,
    so that similar cations receive similar probabilities.

    Args:
        sizes: Numbers of choices of the three decisions.
        cations: Standardized descriptors of the cations, float32 (K, D).
        width: Width of embeddings and hidden layers.
    """

    def __init__(self, sizes: tuple[int, int, int], cations: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("cations", cations)
        features = cations.shape[1]
        self.embed = nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, width))
        self.first = nn.Linear(width, 1)
        self.first_bias = nn.Parameter(torch.zeros(sizes[0]))
        self.second = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
        self.second_bias = nn.Parameter(torch.zeros(sizes[1]))
        self.third = nn.Sequential(
            nn.Linear(2 * width, width), nn.Tanh(), nn.Linear(width, sizes[2])
        )

    def logits(self, a: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the embeddings of the cations, and the logits of A and of B for every A."""
        embedded = self.embed(self.cations)
        first = self.first(embedded)[:, 0] + self.first_bias
        second = self.second(embedded if a is None else embedded[a]) @ embedded.T
        return embedded, first, second / embedded.shape[1] ** 0.5 + self.second_bias

    def forward(self, choices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-probability and the entropy of the decisions of episodes.

        Args:
            choices: int64 (k, 3).

        Returns:
            Log-probabilities (k,), and the sum of the entropies of the three decisions (k,).
        """
        embedded, first, second = self.logits(choices[:, 0])
        pair = embedded[choices[:, :2]].flatten(1)
        logits = (first.expand(len(choices), -1), second, self.third(pair))
        log_probability = torch.zeros(len(choices))
        entropy = torch.zeros(len(choices))
        for decision, values in enumerate(logits):
            log_p = F.log_softmax(values, dim=1)
            log_probability = log_probability + log_p.gather(1, choices[:, decision, None])[:, 0]
            entropy = entropy - (log_p.exp() * log_p).sum(1)
        return log_probability, entropy

    @torch.no_grad()
    def probabilities(self) -> np.ndarray:
        """Return the probability of every combination, float64 of the shape of the grid."""
        embedded, first, second = self.logits()
        p_a = first.double().softmax(0)
        p_b = second.double().softmax(1)
        k = len(embedded)
        pairs = torch.cat(
            [embedded[:, None].expand(-1, k, -1), embedded[None].expand(k, -1, -1)], dim=2
        )
        p_x = self.third(pairs).double().softmax(2)
        return (p_a[:, None, None] * p_b[:, :, None] * p_x).numpy()


def self_imitation_search(search: Search, settings: SelfImitationSettings | None = None) -> None:
    """Learn to propose crystals with a high shaped score.

    Episodes are drawn from the policy until they give new, allowed crystals: the draw is made from
    the policy's distribution restricted to these. The method receives the shaped score of every
    evaluated crystal as the return of its episode.

    Args:
        search: The search.
        settings: Settings.
    """
    settings = settings or SelfImitationSettings()
    space, oracle, rng = search.space, search.oracle, search.rng
    with torch.random.fork_rng():
        torch.manual_seed(int(rng.integers(2**31)))
        cations = torch.from_numpy(space.cation_descriptors)
        policy = ThreeDecisionPolicy(space.sizes, cations, settings.width)
    optimizer = torch.optim.Adam(policy.parameters(), lr=settings.learning_rate)
    oracle.evaluate(search.draw(settings.initial))
    while not oracle.finished:
        episodes = draw_new(search, policy.probabilities(), settings.batch, settings.uniform)
        if not len(episodes):
            return
        baseline = oracle.evaluate(oracle.order).mean()
        returns = oracle.evaluate(episodes)
        choices = space.choices[episodes]
        _step(optimizer, _reinforce(policy, choices, returns - baseline, settings.entropy))
        _clone_best(policy, optimizer, search, settings)


def draw_new(
    search: Search, probabilities: np.ndarray, count: int, uniform: float = 0.0
) -> np.ndarray:
    """Draw distinct candidates from a distribution over the grid, mixed with a uniform one.

    Args:
        search: The search.
        probabilities: Of each combination of choices, of the shape ``space.sizes``.
        count: Number of crystals; fewer are returned if fewer remain or the budget ends.
        uniform: Weight of the uniform distribution over the candidates.
    """
    candidates = search.candidates()
    count = min(count, len(candidates), search.oracle.remaining)
    weights = probabilities[tuple(search.space.choices[candidates].T)] + 1e-300
    weights = (1 - uniform) * weights / weights.sum() + uniform / max(len(candidates), 1)
    # The largest perturbed logarithms are a sample without replacement.
    perturbed = np.log(weights + 1e-300) + search.rng.gumbel(size=len(candidates))
    return candidates[np.argsort(-perturbed)[:count]]


def _reinforce(
    policy: ThreeDecisionPolicy, choices: np.ndarray, advantages: np.ndarray, entropy_weight: float
) -> Tensor:
    """Return the loss of REINFORCE on new episodes."""
    log_probability, entropy = policy(torch.from_numpy(choices))
    advantage = torch.from_numpy(advantages).float()
    return -(advantage * log_probability).mean() - entropy_weight * entropy.mean()


def _clone_best(
    policy: ThreeDecisionPolicy,
    optimizer: torch.optim.Optimizer,
    search: Search,
    settings: SelfImitationSettings,
) -> None:
    """Clone the best episodes so far, with weights that grow with the score."""
    order = search.oracle.order
    scores = search.oracle.evaluate(order)
    best = np.argsort(-scores, kind="stable")[: settings.elite]
    weights = torch.from_numpy((scores[best] - scores[best[0]]) / settings.temperature)
    weights = weights.softmax(0).float()
    elite = torch.from_numpy(search.space.choices[order[best]])
    for _ in range(settings.cloning_steps):
        log_probability, entropy = policy(elite)
        _step(optimizer, -(weights * log_probability).sum() - settings.entropy * entropy.mean())


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
