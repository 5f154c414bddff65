"""The training step of earlier versions, lever by lever, for ``benchmarks/training_step.py``.

Each function undoes one change of a learner that makes its step faster.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from crystal_agents.networks.dropout import Dropout
from crystal_agents.networks.egnn import EGNN
from crystal_agents.networks.egnn_layers import GeometryLayer, Neighbors
from crystal_agents.networks.graph_batch import SkeletonBatch
from crystal_agents.training.behavioral_cloning import CloningLearner
from crystal_agents.training.objectives import EmptySitesObjective


def separate_geometry(
    layer: GeometryLayer, sites: Tensor, vectors: Tensor | None, near: Neighbors
) -> tuple[Tensor, Tensor]:
    """Compute ``GeometryLayer.forward`` with all terms of both directions of each pair."""
    if vectors is None:
        vectors = near.offset.new_zeros(len(sites), layer.weigh.out_features, 3)
    projections = [
        (vectors.index_select(0, end) * near.direction[:, None]).sum(-1)
        for end in (near.source, near.target)
    ]
    normed = layer.norm(sites)
    inputs = [normed.index_select(0, near.source), normed.index_select(0, near.target)]
    inputs.append(near.scalars.repeat(2, 1))
    inputs += [layer.waves(projection).flatten(1) for projection in projections]
    message = F.silu(layer.message(torch.cat(inputs, -1)))
    gathered = near.gather(message, len(sites))
    weight = (layer.weigh(message) * near.fade)[..., None].to(vectors.dtype)
    vectors = vectors.index_add(0, near.source, weight * near.offset[:, None])
    lengths = layer.waves((vectors.square().sum(-1) + 1e-12).sqrt()).flatten(1)
    return sites + layer.update(torch.cat([normed, gathered, lengths], -1)), vectors


class SecondGeometry(EmptySitesObjective):
    """The loss of empty sites, with a second pass of the geometry for the policy's predictions."""

    def geometry(self, model: nn.Module, skeletons: SkeletonBatch, share: slice) -> None:
        """Let each call of the model compute the geometry."""


def compute_geometry_twice(learner: CloningLearner, fabric: Fabric) -> None:
    """Compute the geometry separately for the predictions of the policy."""
    del fabric
    if isinstance(learner.objective, EmptySitesObjective):
        learner.objective.__class__ = SecondGeometry


def compute_pairs_in_every_step(learner: CloningLearner, fabric: Fabric) -> None:
    """Compute the pairs of the skeletons of a batch in every step."""
    del fabric
    learner.objective.skeleton_store.graphs = None


def separate_directions(learner: CloningLearner, fabric: Fabric) -> None:
    """Compute all terms of the geometry layers for each direction of a pair."""
    del fabric
    for layer in cast(EGNN, learner.policy.encoder).trunk:
        layer.forward = partial(separate_geometry, layer)


def separate_matrices(learner: CloningLearner, fabric: Fabric) -> None:
    """Orthogonalize each weight in calls of its own."""
    muon, *others = learner.optimizers
    (group,) = muon.param_groups
    separate = torch.optim.Muon(
        group["params"],
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        adjust_lr_fn="match_rms_adamw",
    )
    learner.optimizers = [fabric.setup_optimizers(separate), *others]


def separate_parameters(learner: CloningLearner, fabric: Fabric) -> None:
    """Update and average each of the other parameters in calls of its own."""
    del fabric
    for group in learner.optimizers[-1].param_groups:
        group["fused"] = None
    average = learner.average

    def update(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        kept = min(0.999, (1 + int(count)) / (10 + int(count)))
        return averaged.lerp(current, 1 - kept)

    average.avg_fn = update
    average.update_parameters = partial(AveragedModel.update_parameters, average)


def draw_floats(learner: CloningLearner, fabric: Fabric) -> None:
    """Draw a number in floating point for each entry of a dropout mask."""
    del fabric
    for module in list(learner.policy.modules()):
        for name, child in module.named_children():
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.rate))


LEVERS: dict[str, Callable[[CloningLearner, Fabric], None]] = {
    "one pass of the geometry": compute_geometry_twice,
    "pairs computed once": compute_pairs_in_every_step,
    "shared terms of a pair's directions": separate_directions,
    "batched Newton-Schulz iteration": separate_matrices,
    "fused AdamW and running average": separate_parameters,
    "dropout with 16 bits": draw_floats,
}
