"""Export an expert dataset to d3rlpy, and train there.

    python examples/d3rlpy_export.py

The script writes d3rlpy.npz with flat observations, see crystal_gym.envs.flat_layout.FlatLayout. If
d3rlpy is installed, its DiscreteCQL is trained and evaluated. d3rlpy requires an older Gymnasium,
but runs with the present one; docs/clients.md has the commands for its installation.
"""

import importlib.util

import gymnasium as gym
import minari
import numpy as np

from crystal_datasets import build_dataset, dataset_id, flat_arrays, load_transitions

name = dataset_id("goldschmidt", "val")
if name not in minari.list_local_datasets():
    build_dataset("goldschmidt", "val")
transitions = load_transitions(name)
arrays = flat_arrays(transitions)
np.savez_compressed("d3rlpy.npz", **arrays)
steps, width = arrays["observations"].shape
mean_return = transitions.returns.mean()
print(f"{name}: {steps} steps of {width} numbers, mean return {mean_return:.3f}")

if importlib.util.find_spec("d3rlpy") is None:
    print("d3rlpy is not installed; see docs/clients.md.")
else:
    import d3rlpy

    # Some elements may never occur as an action, so the number of actions is given.
    n_actions = len(transitions.vocabulary)
    dataset = d3rlpy.dataset.MDPDataset(
        **arrays, action_space=d3rlpy.ActionSpace.DISCRETE, action_size=n_actions
    )
    cql = d3rlpy.algos.DiscreteCQLConfig(gamma=1.0, alpha=1.0, learning_rate=1e-3).create()
    cql.build_with_dataset(dataset)
    env = gym.make("crystal_gym:CrystalSkeletonFlat-v0", split="test")
    evaluate = d3rlpy.metrics.evaluate_qlearning_with_environment
    before = evaluate(cql, env, n_trials=100)
    cql.fit(dataset, n_steps=1500, n_steps_per_epoch=500, with_timestamp=False)
    after = evaluate(cql, env, n_trials=100)
    print(f"return {before:.3f} before and {after:.3f} after training")
