"""A ``SkeletonPolicy`` as a features extractor of Stable-Baselines3."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from crystal_agents.networks.geometry_cache import GeometryCache
from crystal_agents.networks.graph_batch import SkeletonBatch, SkeletonStore
from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy

# Cost of encoding an empty skeleton relative to that of one of its fillings (measured with egnn).
_GEOMETRY_COST = 4


class SkeletonFeatures(BaseFeaturesExtractor):
    r"""Logits of a policy, followed by the features of the critic.

    .. math:: [\,a,\ \text{mean}_v\, e_v,\ e_f,\ r\,]

    with the policy's logits :math:`a` over V elements, the embeddings :math:`e` of the sites in D
    channels, the site in focus f, and the fraction r of sites that are empty.

    States of one skeleton share the encoding of its geometry, the most expensive part of most
    networks. Without gradients, as in roll-outs, only the skeletons that were not in the last batch
    are encoded. If the geometry is frozen, each skeleton is encoded once for the whole training.
    Dropout is off, also in training, because rollouts and updates must use the same policy.

    Args:
        observation_space: Observation space of ``CrystalSkeleton-v0``.
        config: Fields of a ``PolicyConfig`` as plain values.
        critic_shapes_encoder: Let the critic's gradients reach the encoder. Otherwise only the
            actor's gradients change it.
        frozen_geometry: Do not train the weights of the encoder that only the geometry of the empty
            skeleton depends on.

    Shapes:
        Observations of B states as returned by ``preprocess_obs`` (float32, focus one-hot) to
        features (B, V + 2 D + 1).
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        config: Mapping[str, Any],
        *,
        critic_shapes_encoder: bool = False,
        frozen_geometry: bool = False,
    ) -> None:
        network = SkeletonPolicy(PolicyConfig(**{**config, "symbols": tuple(config["symbols"])}))
        self.n_elements = len(network.config.symbols)
        super().__init__(observation_space, self.n_elements + 2 * network.encoder.size + 1)
        self.network = network
        self.critic_shapes_encoder = critic_shapes_encoder
        self.frozen_geometry = frozen_geometry
        self.geometry_cache = GeometryCache(network.encoder, keep_all=frozen_geometry)
        self.train(False)
        self.require_gradients(True)

    def train(self, mode: bool = True) -> "SkeletonFeatures":
        """Stay in evaluation mode."""
        return super().train(False)

    def require_gradients(self, required: bool) -> None:
        """Set whether training changes the weights; those of a frozen geometry never change."""
        self.network.requires_grad_(required)
        if self.frozen_geometry:
            for weight in self.network.encoder.geometry_parameters():
                weight.requires_grad_(False)

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Compute the features of B states."""
        element = observations["element"].to(torch.int64)
        # One-hot encoding keeps the axis of length one that the rollout buffer gives a Discrete.
        focus = observations["focus"].reshape(len(element), -1).argmax(-1)
        frac_coords, lattice = observations["frac_coords"], observations["lattice"]
        n_sites = (element >= 0).sum(1)
        skeletons = torch.cat([n_sites[:, None].to(lattice), lattice, frac_coords.flatten(1)], 1)
        grid = _grid(skeletons)
        columns = grid.states[0]

        def make_batch() -> SkeletonBatch:
            arrays = {
                "n_sites": n_sites,
                "frac_coords": frac_coords,
                "parameters": lattice,
                "edges": observations["edges"],
            }
            return SkeletonStore(arrays, element.device).batch(columns)

        if torch.is_grad_enabled() and not self.frozen_geometry:
            batch, geometry = make_batch(), None
        else:
            batch, geometry = self.geometry_cache(skeletons[columns], make_batch)
        grid_focus = focus[grid.states]
        embedding = self.network.encoder(batch, batch.flat(element[grid.states]), geometry)
        logits = self.network.readout(batch, embedding, grid_focus)
        critic_embedding = embedding if self.critic_shapes_encoder else embedding.detach()
        channels = critic_embedding.shape[-1]
        focus_sites = batch.flat_focus(grid_focus)[..., None].expand(-1, -1, channels)
        features = torch.cat(
            [
                logits,
                batch.mean_over_sites(critic_embedding),
                critic_embedding.gather(1, focus_sites),
            ],
            -1,
        )
        empty = (element == 0).sum(1, keepdim=True) / n_sites[:, None]
        return torch.cat([features.flatten(0, 1)[grid.position], empty], -1)


class _Grid(NamedTuple):
    """B states in S columns; the K states of a column have the same skeleton.

    Attributes:
        states: Indices of the states, int64 (K, S). Incomplete columns repeat a state.
        position: Position of each state in the flattened grid, int64 (B,).
    """

    states: Tensor
    position: Tensor


def _grid(skeletons: Tensor) -> _Grid:
    """Arrange states of equal skeletons in columns, with the K that minimizes the cost.

    Args:
        skeletons: Geometry of each state's skeleton, (B, d). Equal rows have equal edges.
    """
    index = torch.arange(len(skeletons), device=skeletons.device)
    _, skeleton, count = torch.unique(skeletons, dim=0, return_inverse=True, return_counts=True)
    heights = torch.arange(1, int(count.max()) + 1, device=index.device)
    columns = (count[:, None] + heights - 1) // heights
    best = int((columns.sum(0) * (_GEOMETRY_COST + heights)).argmin())
    if best == 0:
        return _Grid(index[None], index)
    height, columns = best + 1, columns[:, best]
    order = skeleton.argsort(stable=True)
    sorted_skeleton = skeleton[order]
    rank = index - (count.cumsum(0) - count)[sorted_skeleton]
    column = (columns.cumsum(0) - columns)[sorted_skeleton] + rank // height
    # The first state of each column also fills its unused places.
    states = order[rank % height == 0].repeat(height, 1)
    states[rank % height, column] = order
    position = torch.empty_like(order)
    position[order] = rank % height * states.shape[1] + column
    return _Grid(states, position)
