"""The posterior scorer, which scores elements by Bayes' rule, without a policy."""

from typing import NamedTuple

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
# Largest residual, in Å or degrees, of a renumbered skeleton that belongs to the prototype.
_TOLERANCE = 0.01


class _Numbering(NamedTuple):
    """One possible numbering of the sites.

    Attributes:
        coordinates: Coordinates of the skeletons in this numbering, (C, d).
        possible: Whether a skeleton in this numbering belongs to the prototype, bool (C,).
        rows: For each filling of the design space, the row of ``fillings`` that has its elements
            on the same sites in the numbering of the table, (G,).
    """

    coordinates: Tensor
    possible: Tensor
    rows: Tensor


class PosteriorScorer:
    """A scorer that returns log p(element of the focus, filled sites | geometry).

    The probability is over all fillings of the design space. The softmax of the scores is
    p(element of the focus | geometry, filled sites).

    Args:
        generator: A generator with the vocabulary of the table.
        table: Crystals of the same prototype.
        numbered: Whether the numbers of the sites are evidence. Otherwise, the probability is the
            mean over all numberings of the sites that leave the prototype unchanged up to an
            exchange of axes: the limit for a network that receives no site numbers.
        evidence: Whether filled sites are evidence. Otherwise, the scores are
            log p(element of the focus | geometry). The elements with the highest of these have the
            highest expected accuracy, whereas greedy choices that are evidence for the following
            ones approach the most probable filling.
    """

    def __init__(
        self,
        generator: SyntheticGenerator,
        table: EpisodeTable,
        *,
        numbered: bool = True,
        evidence: bool = True,
    ) -> None:
        self._evidence = evidence
        self._posterior = generator.posterior()
        self._n_elements = len(generator.vocabulary)
        self._fillings, self._numberings = _numberings(generator, table, numbered=numbered)
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
        weight = probability
        if self._evidence:
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
            # The earlier posterior is released first.
            self._last = b"", torch.empty(0)
            probability = torch.empty(len(crystals), len(self._fillings))
            for first in range(0, len(crystals), _CHUNK):
                rows = torch.as_tensor(crystals[first : first + _CHUNK])
                probability[first : first + _CHUNK] = self._probability(rows)
            self._last = key, probability
        return self._last[1]

    def _probability(self, crystals: Tensor) -> Tensor:
        """Compute the probabilities of all fillings of the crystals, (S,), float32 (S, G)."""
        log_density = torch.full((len(crystals), len(self._fillings)), -torch.inf)
        for numbering in self._numberings:
            some = numbering.possible[crystals].nonzero()[:, 0]
            found = self._posterior.log_density(numbering.coordinates[crystals[some]])
            index = some[:, None], numbering.rows[None]
            log_density[index] = torch.logaddexp(log_density[index], found)
        return log_density.softmax(1)


def _numberings(
    generator: SyntheticGenerator, table: EpisodeTable, *, numbered: bool
) -> tuple[Tensor, list[_Numbering]]:
    """Return all fillings in the numbering of the table, int64 (F, n), and the numberings."""
    prototype = generator.prototype
    frac_coords = table.frac_coords[:, : len(prototype.reference)]
    changes = prototype.renumberings()
    if numbered:
        changes = changes[:1]
    # Site i of the table is site `sites[i]` in the other numbering.
    renumbered = [generator.space.fillings[:, sites] for _, sites in changes]
    fillings, rows = np.unique(np.concatenate(renumbered), axis=0, return_inverse=True)
    found = []
    for (axes, sites), index in zip(changes, np.split(rows.reshape(-1), len(changes)), strict=True):
        frac = frac_coords[:, np.argsort(sites)][..., axes]
        parameters = table.lattice[:, np.concatenate([axes, 3 + axes])]
        coordinates = torch.as_tensor(prototype.coordinates(frac, parameters), dtype=torch.float32)
        possible = torch.as_tensor(prototype.residual(frac, parameters) < _TOLERANCE)
        found.append(_Numbering(coordinates, possible, torch.as_tensor(index)))
    # A crystal that is not quite of the prototype keeps its numbering.
    none = ~torch.stack([numbering.possible for numbering in found]).any(0)
    found[0] = found[0]._replace(possible=found[0].possible | none)
    return torch.as_tensor(fillings), found
