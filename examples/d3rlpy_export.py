"""Export a behavior dataset to d3rlpy, whose observations are flat vectors, and train there.

    python examples/d3rlpy_export.py

The script writes d3rlpy.npz. If d3rlpy is installed (pip install d3rlpy), its DiscreteCQL is
trained for 200 steps. Flat vectors lose the graph: use them to compare algorithms, not networks.

Layout of an observation for cells of up to N sites and V elements, float32:

    one-hot element of each site, 0 (empty) to V; zeros on padding    N (V + 1)
    fractional coordinates of each site                               3 N
    lattice: three lengths / 10 Å, three angles / 90 degrees          6
    one-hot site in focus                                             N
"""

import importlib.util

import minari
import numpy as np

from crystal_datasets import Transitions, build_dataset, dataset_id, load_transitions

name = dataset_id("goldschmidt", "val", "random")
if name not in minari.list_local_datasets():
    build_dataset("goldschmidt", "val", "random")


def flat_observations(data: Transitions) -> np.ndarray:
    """Return the observation before each action, in the layout above: float32 (T, D)."""
    elements = np.eye(len(data.vocabulary) + 1, dtype=np.float32)[np.maximum(data.elements, 0)]
    elements[data.elements < 0] = 0
    n_max = data.elements.shape[1]
    cell = data.lattice / np.array([10, 10, 10, 90, 90, 90], np.float32)
    parts = (
        elements.reshape(len(data), -1),
        data.frac_coords[data.skeleton].reshape(len(data), -1),
        cell[data.skeleton],
        np.eye(n_max, dtype=np.float32)[data.focus],
    )
    return np.concatenate(parts, axis=1)


data = load_transitions(name)
arrays = {
    "observations": flat_observations(data),
    "actions": data.action[:, None].astype(np.int64),
    "rewards": data.reward[:, None],
    "terminals": data.done.astype(np.float32),
}
np.savez_compressed("d3rlpy.npz", **arrays)
steps, width = arrays["observations"].shape
print(f"{name}: {steps} steps of {width} numbers, mean return {data.returns.mean():.4f}")

if importlib.util.find_spec("d3rlpy") is None:
    print("d3rlpy is not installed: pip install d3rlpy")
else:
    import d3rlpy

    # Some elements may never occur as an action, so the number of actions is given.
    dataset = d3rlpy.dataset.MDPDataset(
        **arrays,
        action_space=d3rlpy.ActionSpace.DISCRETE,
        action_size=len(data.vocabulary),
    )
    cql = d3rlpy.algos.DiscreteCQLConfig(gamma=1.0, alpha=0.1).create()
    cql.fit(dataset, n_steps=200, n_steps_per_epoch=100, with_timestamp=False)
    actions = cql.predict(arrays["observations"][:1000])
    agreement = (actions == data.action[:1000]).mean()
    print(
        f"After 200 steps, {agreement:.1%} of the greedy actions of DiscreteCQL equal the data's."
    )
