"""Extremely randomized trees on element descriptors, with an upper confidence bound."""

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from crystal_agents.experiments.discovery.task import Search


@dataclass(frozen=True)
class ExtraTreesSettings:
    """Settings of the search with trees.

    Attributes:
        trees: Number of trees.
        max_features: Fraction of the descriptors that are tried at a split.
        exploration: Weight of the standard deviation between trees.
        batch: Crystals evaluated between two fits without a rule.
        batch_with_rule: The same where a rule restricts the candidates.
        initial: Random crystals evaluated before the first fit.
    """

    trees: int = 50
    max_features: float = 0.33
    exploration: float = 1.0
    batch: int = 50
    batch_with_rule: int = 20
    initial: int = 50


def extra_trees_search(search: Search, settings: ExtraTreesSettings | None = None) -> None:
    """Evaluate the candidates with the highest upper confidence bound of the shaped score.

    The bound is the mean over the trees plus their standard deviation times the exploration. The
    method receives the shaped score of every evaluated crystal and the descriptors of all crystals.

    Args:
        search: The search.
        settings: Settings.
    """
    settings = settings or ExtraTreesSettings()
    oracle, descriptors = search.oracle, search.space.descriptors
    batch = settings.batch if search.space.allowed.all() else settings.batch_with_rule
    oracle.evaluate(search.draw(min(settings.initial, batch)))
    while not oracle.finished:
        candidates = search.candidates()
        if not len(candidates):
            return
        seed = int(search.rng.integers(2**31))
        model = ExtraTreesRegressor(
            settings.trees, max_features=settings.max_features, n_jobs=1, random_state=seed
        )
        model.fit(descriptors[oracle.order], oracle.evaluate(oracle.order))
        trees = np.stack(
            [tree.tree_.predict(descriptors[candidates])[:, 0] for tree in model.estimators_]
        )
        bound = trees.mean(0) + settings.exploration * trees.std(0)
        best = np.argsort(-bound, kind="stable")[: min(batch, oracle.remaining)]
        oracle.evaluate(candidates[best])
