"""The posterior scorer, which scores elements by Bayes' rule, without a policy."""

import numpy as np
import torch
from torch import Tensor

from crystal_agents.rollouts.rollout import crystals_of
from crystal_agents.synthetic.generation import SyntheticGenerator
from crystal_gym.episode import EpisodeState, EpisodeTable

# Number of crystals whose posteriors and scores are computed together.
_CHUNK = 32
# Minimum probability of an element, so that its logarithm is finite.
_MIN_PROBABILITY = 1e-12


class PosteriorScorer:
    """A scorer that returns log p(element of the focus, filled sites | geometry).

    The probability is over all fillings of the design space. The softmax of the scores is
    p(element of the focus | geometry, filled sites).

    Args:
        generator: A generator with the vocabulary of the table.
        table: Crystals of the same prototype.
    """

    def __init__(self, generator: SyntheticGenerator, table: EpisodeTable) -> None:
        self._posterior = generator.posterior()
        self._fillings = torch.as_tensor(generator.space.fillings)
        self._n_elements = len(generator.vocabulary)
        sites = len(generator.prototype.reference)
        self._coordinates = torch.as_tensor(
            generator.prototype.coordinates(table.frac_coords[:, :sites], table.lattice),
            dtype=torch.float32,
        )
        # The crystals of the last batch and their posterior, which all steps of its episodes use.
        self._last: tuple[bytes, Tensor] = (b"", torch.empty(0))

    @torch.no_grad()
    def __call__(self, state: EpisodeState) -> np.ndarray:
        """Return the scores in a batch of K x S episodes, float32 (B, V)."""
        crystals = crystals_of(state)
        repeats = len(state.crystal) // len(crystals)
        probability = self._posterior_of(crystals)
        elements = torch.as_tensor(state.elements).view(repeats, len(crystals), -1)
        focus = torch.as_tensor(state.focus).view(repeats, -1)
        scores = torch.zeros(repeats, len(crystals), self._n_elements)
        for first in range(0, len(crystals), _CHUNK):
            rows = slice(first, first + _CHUNK)
            for k in range(repeats):
                scores[k, rows] = self._score(probability[rows], elements[k, rows], focus[k, rows])
        return scores.clamp_min(_MIN_PROBABILITY).log().flatten(0, 1).numpy()

    def _score(self, probability: Tensor, elements: Tensor, focus: Tensor) -> Tensor:
        """Compute p(element of the focus, filled sites | geometry) of S states, (S, V).

        Args:
            probability: Probabilities of all fillings, (S, G).
            elements: Codes, (S, N).
            focus: Sites in focus, (S,).
        """
        weight = probability.clone()
        for site, codes in enumerate(elements[:, : self._fillings.shape[1]].T):
            known = codes > 0
            agrees = codes[known, None] == self._fillings[:, site]
            weight[known] = weight[known].where(agrees, 0.0)
        scores = torch.zeros(len(elements), self._n_elements)
        for site in focus.unique():
            rows = focus == site
            index = self._fillings[:, site] - 1
            scores[rows] = scores[rows].index_add(1, index, weight[rows])
        return scores

    def _posterior_of(self, crystals: np.ndarray) -> Tensor:
        """Return the probabilities of all fillings of the given crystals, (S, G)."""
        key = crystals.tobytes()
        if self._last[0] != key:
            coordinates = self._coordinates[crystals]
            # The earlier posterior is released first.
            self._last = b"", torch.empty(0)
            probability = torch.empty(len(crystals), len(self._fillings))
            for chunk, rows in zip(
                coordinates.split(_CHUNK), probability.split(_CHUNK), strict=True
            ):
                torch.exp(self._posterior.log_probability(chunk), out=rows)
            self._last = key, probability
        return self._last[1]
