"""An ensemble of networks that predicts the labels, and the probability of a target."""

from dataclasses import dataclass

import numpy as np

from crystal_agents.experiments.discovery.ensemble import Ensemble, EnsembleSettings
from crystal_agents.experiments.discovery.task import Search


@dataclass(frozen=True)
class LabelEnsembleSettings(EnsembleSettings):
    """Settings of the search with predicted labels, chosen on the photocorrosion task.

    Attributes:
        initial: Random crystals evaluated before the first fit.
        batch: Crystals evaluated between two fits.
        exploration: Factor of the standard deviation between the members.
        noise: Standard deviation added to it, in eV or eV/atom, for errors that all members share.
    """

    initial: int = 20
    batch: int = 20
    exploration: float = 2.0
    noise: float = 0.3


def label_ensemble_search(search: Search, settings: LabelEnsembleSettings | None = None) -> None:
    """Evaluate the candidates that meet all criteria with the highest probability.

    The labels are regarded as independent and normal, with the mean and the widened standard
    deviation of the ensemble. The method receives the labels of every evaluated crystal, the
    criteria of the task, and the descriptors of all crystals.

    Args:
        search: The search.
        settings: Settings.
    """
    settings = settings or LabelEnsembleSettings()
    oracle, descriptors = search.oracle, search.space.descriptors
    ensemble = Ensemble(descriptors, len(search.criteria.labels), settings, search.rng)
    oracle.evaluate(search.draw(settings.initial))
    while not oracle.finished:
        candidates = search.candidates()
        if not len(candidates):
            return
        ensemble.fit(oracle.order, oracle.labels(oracle.order))
        predicted = ensemble.predict(candidates)
        deviation = np.hypot(settings.exploration * predicted.std(0), settings.noise)
        probability = search.criteria.log_probability(predicted.mean(0), deviation)
        best = np.argsort(-probability, kind="stable")[: min(settings.batch, oracle.remaining)]
        oracle.evaluate(candidates[best])
