"""A genetic algorithm on the three choices of a crystal, by pymoo."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.ux import UX

from crystal_agents.experiments.discovery.search_space import SearchSpace
from crystal_agents.experiments.discovery.task import Search


@dataclass(frozen=True)
class GeneticSettings:
    """Settings of the genetic algorithm, chosen on the photocorrosion task.

    Attributes:
        population: Number of crystals that survive each generation.
        offspring: Number of crystals evaluated in each generation.
        mutation: Probability that a choice of a child is mutated.
        width: Standard deviation of a mutation of a cation, in ranks of the Mendeleev number.
        uniform: Probability that a mutated choice is drawn uniformly instead.
    """

    population: int = 20
    offspring: int = 40
    mutation: float = 0.2
    width: float = 2.0
    uniform: float = 0.3


class _Unavailable(DuplicateElimination):
    """Removes children that have been evaluated, are not allowed or occur twice."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self.search = search

    def do(
        self,
        pop: Any,
        *args: Any,
        return_indices: bool = False,
        to_itself: bool = True,
    ) -> Any:
        """Return the crystals that can be evaluated and are not in the populations ``args``."""
        if len(pop) == 0:
            return pop
        space = self.search.space
        rows = rows_of(space, pop.get("X"))
        free = space.allowed[rows] & ~self.search.oracle.evaluated[rows]
        if to_itself:
            first = np.zeros(len(rows), bool)
            first[np.unique(rows, return_index=True)[1]] = True
            free &= first
        for other in args:
            if len(other):
                free &= ~np.isin(rows, rows_of(space, other.get("X")))
        return pop[free]


class _NearMutation(Mutation):
    """Replaces choices by similar ones, or by random ones."""

    def __init__(self, settings: GeneticSettings) -> None:
        super().__init__()
        self.settings = settings

    def _do(self, problem: Problem, X: np.ndarray, *_: Any, random_state: Any, **__: Any) -> Any:
        highest = np.asarray(problem.xu)
        sizes = highest + 1
        step = np.rint(random_state.normal(0, self.settings.width, X.shape)).astype(int)
        near = np.clip(X + step, 0, highest)
        uniform = random_state.integers(0, sizes, X.shape)
        drawn = random_state.random(X.shape) < self.settings.uniform
        # Groups of anions have no order.
        drawn[:, 2] = True
        mutated = random_state.random(X.shape) < self.settings.mutation
        return np.where(mutated, np.where(drawn, uniform, near), X)


def genetic_search(search: Search, settings: GeneticSettings | None = None) -> None:
    """Evolve crystals towards a high shaped score; children are always new crystals.

    The survivors are the crystals with the highest scores. The method receives the shaped score of
    every evaluated crystal.

    Args:
        search: The search.
        settings: Settings (default: those chosen on the photocorrosion task).
    """
    settings = settings or GeneticSettings()
    space, oracle = search.space, search.oracle
    problem = Problem(
        n_var=3, n_obj=1, xl=np.zeros(3, int), xu=np.array(space.sizes) - 1, vtype=int
    )
    # pymoo annotates these arguments with the types of their defaults.
    operators: dict[str, Any] = {
        "sampling": space.choices[search.draw(settings.population)],
        "crossover": UX(),
        "mutation": _NearMutation(settings),
        "eliminate_duplicates": _Unavailable(search),
    }
    algorithm = GA(pop_size=settings.population, n_offsprings=settings.offspring, **operators)
    algorithm.setup(
        problem, termination=NoTermination(), seed=int(search.rng.integers(2**31)), verbose=False
    )
    while not oracle.finished:
        children = _ask(algorithm)
        if children is None or len(children) == 0:
            # No crossover or mutation of the survivors leads to a new crystal.
            if not len(search.candidates()):
                return
            children = _as_population(space.choices[search.draw(settings.offspring)])
        children = children[: oracle.remaining]
        scores = oracle.evaluate(rows_of(space, children.get("X")))
        children.set("F", -scores[:, None])
        algorithm.tell(infills=children)  # codespell:ignore tell


# pymoo annotates its populations as arrays, without their methods.
def _ask(algorithm: GA) -> Any:
    return algorithm.ask()


def _as_population(choices: np.ndarray) -> Any:
    return Population.new(X=choices)


def rows_of(space: SearchSpace, choices: np.ndarray) -> np.ndarray:
    """Return the rows of the crystals with these choices, (k,)."""
    return space.rows[tuple(choices.astype(int).T)]
