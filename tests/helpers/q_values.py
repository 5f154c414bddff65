"""Q-values computed one state at a time, independent of batches and of torchrl."""

import torch

from crystal_agents.networks.graph_batch import SkeletonStore


def q_values(policy, data, elements, focus):
    """Return the policy's logits for the skeleton of each transition in the given states."""
    store = SkeletonStore(
        {
            "n_sites": data.n_sites,
            "frac_coords": data.frac_coords,
            "parameters": data.lattice,
            "edges": data.edges,
        }
    )
    values = []
    for t, row in enumerate(data.skeleton.tolist()):
        batch = store.batch(torch.tensor([row]))
        codes = batch.flat(torch.as_tensor(elements[t], dtype=torch.int64)[None, None])
        site = torch.tensor([[int(focus[t])]])
        values.append(policy(batch, codes, site)[0, 0])
    return torch.stack(values).detach().double()
