"""An ensemble of small networks with random prior functions, for uncertainty of predictions.

Each network is the sum of a trained perceptron and a fixed random one, its prior function (Osband
et al., Randomized Prior Functions for Deep Reinforcement Learning, NeurIPS 2018). The networks
agree where they have data, and differ elsewhere.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class EnsembleSettings:
    """Settings of an ensemble and of its training.

    Attributes:
        members: Number of networks.
        width: Width of the two hidden layers.
        prior: Weight of the prior functions, in standard deviations of the targets.
        learning_rate: Learning rate of AdamW.
        first_steps: Steps of the first fit.
        steps: Steps of each later fit, which continues from the present weights.
        minibatch: Evaluated crystals of a step, drawn for each member.
    """

    members: int = 8
    width: int = 64
    prior: float = 0.3
    learning_rate: float = 3e-3
    first_steps: int = 200
    steps: int = 50
    minibatch: int = 64


class _Perceptrons(nn.Module):
    """M perceptrons with two hidden layers, (N, D) or (M, N, D) to (M, N, K)."""

    def __init__(self, members: int, sizes: tuple[int, ...], last_scale: float) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for size_in, size_out in itertools.pairwise(sizes):
            weight = torch.randn(members, size_in, size_out) / size_in**0.5
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, size_out)))
        with torch.no_grad():
            self.weights[-1] *= last_scale

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs.expand(len(self.weights[0]), *inputs.shape[-2:])
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, F.relu(hidden) if layer else hidden, weight)
        return hidden


class Ensemble:
    """M networks that predict K quantities of crystals from their descriptors.

    Args:
        descriptors: Descriptors of all crystals, (C, D); they are standardized.
        n_outputs: K.
        settings: Settings.
        rng: Source of random numbers, for the initial weights and the minibatches.
    """

    def __init__(
        self,
        descriptors: np.ndarray,
        n_outputs: int,
        settings: EnsembleSettings,
        rng: np.random.Generator,
    ) -> None:
        scale = descriptors.std(0) + 1e-6
        standardized = (descriptors - descriptors.mean(0)) / scale
        self._inputs = torch.from_numpy(standardized.astype(np.float32))
        self._settings, self._rng = settings, rng
        sizes = (descriptors.shape[1], settings.width, settings.width, n_outputs)
        with torch.random.fork_rng():
            torch.manual_seed(int(rng.integers(2**31)))
            # Small outputs at first, so that the ensemble initially predicts its priors.
            self._networks = _Perceptrons(settings.members, sizes, last_scale=0.1)
            priors = _Perceptrons(settings.members, sizes, last_scale=1.0)
        with torch.no_grad():
            # The priors never change, so their values for all crystals are computed once.
            self._prior = settings.prior * priors(self._inputs)
        self._optimizer = torch.optim.AdamW(
            self._networks.parameters(), lr=settings.learning_rate, weight_decay=1e-4
        )
        self._mean, self._scale = np.zeros(n_outputs), np.ones(n_outputs)
        self._is_fitted = False

    def fit(self, crystals: np.ndarray, targets: np.ndarray) -> None:
        """Continue the training on all evaluated crystals.

        Args:
            crystals: Rows of the descriptors, (k,).
            targets: Their quantities, (k, K), which are standardized.
        """
        settings = self._settings
        self._mean, self._scale = targets.mean(0), targets.std(0) + 1e-6
        expected = torch.from_numpy(((targets - self._mean) / self._scale).astype(np.float32))
        inputs, prior = self._inputs[crystals], self._prior[:, crystals]
        member = torch.arange(settings.members)[:, None]
        size = (settings.members, min(settings.minibatch, len(crystals)))
        for _ in range(settings.steps if self._is_fitted else settings.first_steps):
            batch = torch.from_numpy(self._rng.integers(len(crystals), size=size))
            predicted = self._networks(inputs[batch]) + prior[member, batch]
            error = predicted - expected[batch]
            # The sum over members gives each its own gradient.
            loss = error.square().mean((1, 2)).sum()
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
        self._is_fitted = True

    @torch.no_grad()
    def predict(self, crystals: np.ndarray) -> np.ndarray:
        """Return the prediction of each member, float64 (M, k, K), in the units of the targets."""
        predicted = self._networks(self._inputs[crystals]) + self._prior[:, crystals]
        return predicted.double().numpy() * self._scale + self._mean
