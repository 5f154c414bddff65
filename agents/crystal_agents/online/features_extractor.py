"""A ``SkeletonPolicy`` as a features extractor of Stable-Baselines3."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from crystal_agents.networks.graph_batch import SkeletonStore
from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy

# What reading an empty skeleton costs, in readings of one of its fillings (measured on egnn).
_GEOMETRY_COST = 4


class SkeletonFeatures(BaseFeaturesExtractor):
    r"""Logits of a policy, and what a critic reads beside them.

    .. math:: [\,a,\ \text{mean}_v\, e_v,\ e_f,\ r\,]

    with the policy's logits :math:`a` over V elements and the embeddings :math:`e` of its sites,
    f the one in focus, in D channels each, and the share r of sites that are still empty.

    States of one skeleton share the reading of its geometry, the dearest part of most networks.
    Dropout is off, in training as well: rollouts and updates must see the same policy.

    Args:
        observation_space: of ``CrystalSkeleton-v0``.
        config: the fields of a ``PolicyConfig``, as plain values.
        critic_shapes_encoder: let the critic's gradients into the encoder; else they stop there,
            and only the actor's move it.

    Shapes: observations of B states, as ``preprocess_obs`` leaves them (all float32, the focus
    one-hot), to (B, V + 2 D + 1).
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        config: Mapping[str, Any],
        *,
        critic_shapes_encoder: bool = False,
    ) -> None:
        network = SkeletonPolicy(PolicyConfig(**{**config, "symbols": tuple(config["symbols"])}))
        self.n_elements = len(network.config.symbols)
        super().__init__(observation_space, self.n_elements + 2 * network.encoder.size + 1)
        self.network = network
        self.critic_shapes_encoder = critic_shapes_encoder
        self.train(False)

    def train(self, mode: bool = True) -> "SkeletonFeatures":
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Features of B states."""
        element = observations["element"].to(torch.int64)
        # The rollout buffer keeps a Discrete as an axis of one, which one-hot encoding leaves.
        focus = observations["focus"].reshape(len(element), -1).argmax(-1)
        frac_coords, lattice = observations["frac_coords"], observations["lattice"]
        n_sites = (element >= 0).sum(1)
        grid = _grid(torch.cat([n_sites[:, None].to(lattice), lattice, frac_coords.flatten(1)], 1))
        store = SkeletonStore(
            {
                "n_sites": n_sites,
                "frac_coords": frac_coords,
                "parameters": lattice,
                "edges": observations["edges"],
            },
            element.device,
        )
        batch = store.batch(grid.states[0])
        states_focus = focus[grid.states]
        embedding = self.network.encoder(batch, batch.flat(element[grid.states]))
        logits = self.network.readout(batch, embedding, states_focus)
        seen = embedding if self.critic_shapes_encoder else embedding.detach()
        sites = batch.flat_focus(states_focus)[..., None].expand(-1, -1, seen.shape[-1])
        features = torch.cat([logits, batch.mean_over_sites(seen), seen.gather(1, sites)], -1)
        empty = (element == 0).sum(1, keepdim=True) / n_sites[:, None]
        return torch.cat([features.flatten(0, 1)[grid.place], empty], -1)


class _Grid(NamedTuple):
    """B states as K of each of S skeletons.

    ``states``: int64 (K, S), some of them twice where rows are not full; ``place``: where each
    state stands in the flattened grid, int64 (B,).
    """

    states: Tensor
    place: Tensor


def _grid(skeletons: Tensor) -> _Grid:
    """States of equal skeletons together, as far as that spares work.

    Args:
        skeletons: what tells them apart, (B, d); their edges follow from their geometry.
    """
    each = torch.arange(len(skeletons), device=skeletons.device)
    _, skeleton, count = torch.unique(skeletons, dim=0, return_inverse=True, return_counts=True)
    together = torch.arange(1, int(count.max()) + 1, device=each.device)
    rows = (count[:, None] + together - 1) // together
    best = int((rows.sum(0) * (_GEOMETRY_COST + together)).argmin())
    if best == 0:
        return _Grid(each[None], each)
    wide, rows = best + 1, rows[:, best]
    order = skeleton.argsort(stable=True)
    owner = skeleton[order]
    rank = each - (count.cumsum(0) - count)[owner]
    row = (rows.cumsum(0) - rows)[owner] + rank // wide
    # A row begins with a state of its own, which also fills what is left of it.
    states = order[rank % wide == 0].repeat(wide, 1)
    states[rank % wide, row] = order
    place = torch.empty_like(order)
    place[order] = rank % wide * states.shape[1] + row
    return _Grid(states, place)
