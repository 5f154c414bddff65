"""Filling by Bayes' rule: the posterior of a prototype's fillings as a rule of its own."""

import numpy as np
import torch
from torch import Tensor

from crystal_agents.rollouts.rollout import crystals_of
from crystal_agents.synthetic.generation import SyntheticGenerator
from crystal_gym.episode import EpisodeState, EpisodeTable

# Crystals whose posterior is computed together.
_CHUNK = 32
# Least probability of an element: the logarithm stays finite.
_LEAST = 1e-12


class PosteriorScorer:
    """Log p(element at the focus | geometry, filled sites) over the whole design space.

    Args:
        model: of known crystals, with the vocabulary of the table.
        table: crystals of the same prototype.
    """

    def __init__(self, model: SyntheticGenerator, table: EpisodeTable) -> None:
        self._posterior = model.posterior()
        self._fillings = torch.as_tensor(model.space.fillings)
        self._n_elements = len(model.vocabulary)
        sites = len(model.prototype.reference)
        self._coordinates = torch.as_tensor(
            model.prototype.coordinates(table.frac_coords[:, :sites], table.lattice),
            dtype=torch.float32,
        )
        self._last: tuple[bytes, Tensor] = (b"", torch.empty(0))

    @torch.no_grad()
    def __call__(self, state: EpisodeState) -> np.ndarray:
        """Scores (B, V) in a group's states; the first S of the B rows name its crystals."""
        crystals = crystals_of(state)
        repeats = len(state.crystal) // len(crystals)
        probability = self._of(crystals)
        elements = torch.as_tensor(state.elements).view(repeats, len(crystals), -1)
        focus = torch.as_tensor(state.focus).view(repeats, -1)
        scores = torch.zeros(repeats, len(crystals), self._n_elements)
        for k, filled in enumerate(elements[..., : self._fillings.shape[1]]):
            weight = probability.clone()
            for site, codes in enumerate(filled.T):
                known = codes > 0
                agrees = codes[known, None] == self._fillings[:, site]
                weight[known] = weight[known].where(agrees, 0.0)
            for site in focus[k].unique():
                rows = focus[k] == site
                index = self._fillings[:, site] - 1
                scores[k, rows] = scores[k, rows].index_add(1, index, weight[rows])
        return scores.clamp_min(_LEAST).log().flatten(0, 1).numpy()

    def _of(self, crystals: np.ndarray) -> Tensor:
        """Posterior of these crystals, (S, G); that of the last group is kept for its next step."""
        key = crystals.tobytes()
        if self._last[0] != key:
            chunks = self._coordinates[crystals].split(_CHUNK)
            logs = [self._posterior.log_probability(chunk) for chunk in chunks]
            self._last = key, torch.cat(logs).exp()
        return self._last[1]
