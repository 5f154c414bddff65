"""Bootstrapped Q-learning on the three decisions of a crystal, by an ensemble of networks.

An episode chooses A, then B, then the anions, and its return is the shaped score. The value of the
last decision is the expected return, which an ensemble of networks predicts for all crystals and
which is trained by replay of all evaluated crystals. The values of the first two decisions follow
from it by the Bellman equation,

    Q(A, B) = max Q(A, B, X) over X,    Q(A) = max Q(A, B) over B,

over the crystals that can still be evaluated. Filling a site is deterministic, so these backups are
exact and need no target network. The networks predict the return itself, or the labels, from which
the criteria of the task give the return. As in bootstrapped DQN (Osband et al., NeurIPS 2016), each
episode is greedy for one member of the ensemble, an approximate form of Thompson sampling.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crystal_agents.experiments.discovery.ensemble import Ensemble, EnsembleSettings
from crystal_agents.experiments.discovery.task import Search


@dataclass(frozen=True)
class BootstrappedDQNSettings(EnsembleSettings):
    """Settings of the bootstrapped Q-learning, chosen on the photocorrosion task.

    Attributes:
        initial: Random episodes before the first fit.
        batch: Episodes between two fits.
        from_labels: Whether the networks predict labels instead of returns.
    """

    initial: int = 20
    batch: int = 20
    from_labels: bool = False


class DecisionTree:
    """Action values of the three decisions for each member, restricted to available crystals.

    Args:
        values: Value of each combination of choices, float (M, A, B, X).
        available: Whether the combination can be proposed, bool (A, B, X).
    """

    def __init__(self, values: np.ndarray, available: np.ndarray) -> None:
        self._last = np.where(available, values, -np.inf)
        self._second = self._last.max(3)
        self._first = self._second.max(2)

    def act(self, member: int) -> tuple[int, int, int]:
        """Return the greedy decisions of a member."""
        a = int(self._first[member].argmax())
        b = int(self._second[member, a].argmax())
        return a, b, int(self._last[member, a, b].argmax())

    def remove(self, a: int, b: int, x: int) -> None:
        """Make a crystal unavailable, and back up the values of the decisions that lead to it."""
        self._last[:, a, b, x] = -np.inf
        self._second[:, a, b] = self._last[:, a, b].max(1)
        self._first[:, a] = self._second[:, a].max(1)


def bootstrapped_dqn_search(
    search: Search, settings: BootstrappedDQNSettings | None = None
) -> None:
    """Evaluate crystals that are greedy for one member of the ensemble each.

    The method receives the descriptors of all crystals and, of every evaluated crystal, the shaped
    score or, with ``from_labels``, the labels. In the second case it also receives the criteria.

    Args:
        search: The search.
        settings: Settings.
    """
    settings = settings or BootstrappedDQNSettings()
    ensemble = make_ensemble(search, settings)
    search.oracle.evaluate(search.draw(settings.initial))
    continue_search(search, settings, ensemble)


def make_ensemble(search: Search, settings: BootstrappedDQNSettings) -> Ensemble:
    """Return the untrained networks of a search."""
    n_outputs = len(search.criteria.labels) if settings.from_labels else 1
    return Ensemble(search.space.descriptors, n_outputs, settings, search.rng)


def continue_search(search: Search, settings: BootstrappedDQNSettings, ensemble: Ensemble) -> None:
    """Alternate between replay of all evaluated crystals and new episodes, until the search ends.

    Args:
        search: A search with evaluated crystals.
        settings: Settings.
        ensemble: The networks, which may be trained.
    """
    space, oracle = search.space, search.oracle
    while not oracle.finished:
        candidates = search.candidates()
        if not len(candidates):
            return
        evaluated = oracle.order
        if settings.from_labels:
            ensemble.fit(evaluated, oracle.labels(evaluated))
            returns = search.criteria.score(ensemble.predict(candidates))
        else:
            ensemble.fit(evaluated, oracle.evaluate(evaluated)[:, None])
            returns = ensemble.predict(candidates)[:, :, 0]
        values = np.zeros((settings.members, *space.sizes))
        available = np.zeros(space.sizes, bool)
        where = tuple(space.choices[candidates].T)
        values[:, *where] = returns
        available[where] = True
        count = min(settings.batch, oracle.remaining, len(candidates))
        members = search.rng.permutation(settings.members)
        episodes = _episodes(DecisionTree(values, available), members, count)
        oracle.evaluate(space.rows[tuple(np.array(list(episodes)).T)])


def _episodes(
    tree: DecisionTree, members: np.ndarray, count: int
) -> Iterator[tuple[int, int, int]]:
    """Yield the choices of distinct crystals, for which the members act in turn."""
    for episode in range(count):
        choices = tree.act(int(members[episode % len(members)]))
        tree.remove(*choices)
        yield choices
