"""Clone the expert of a flat Minari dataset with plain PyTorch.

    python examples/minari_cloning.py

The dataset of the embedded collection is built on the first run. The return is the fraction of
sites with their true element, on crystals that are not used for training.
"""

import minari
import numpy as np
import torch
from torch import nn

from crystal_datasets import build_dataset, dataset_id

name = dataset_id("goldschmidt", "val", observations="flat")
if name not in minari.list_local_datasets():
    build_dataset("goldschmidt", "val", observations="flat")
dataset = minari.load_dataset(name)
env = dataset.recover_environment(split="test")

# An episode has one observation more than actions: the finished crystal.
observations = torch.as_tensor(np.concatenate([episode.observations[:-1] for episode in dataset]))
actions = torch.as_tensor(np.concatenate([episode.actions for episode in dataset]))
print(f"{name}: {len(actions)} steps of {observations.shape[1]} numbers")

torch.manual_seed(0)
network = nn.Sequential(
    nn.Linear(observations.shape[1], 256), nn.ReLU(), nn.Linear(256, int(env.action_space.n))
)
optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)


def mean_return(episodes: int = 200) -> float:
    """Return the mean return of the greedy policy: the fraction of true elements."""
    total = 0.0
    for episode in range(episodes):
        observation, _ = env.reset(seed=0 if episode == 0 else None)
        ended = False
        while not ended:
            with torch.no_grad():
                action = network(torch.as_tensor(observation)).argmax().item()
            observation, reward, ended, _, _ = env.step(action)
            total += float(reward)
    return total / episodes


print(f"before: return {mean_return():.3f}")
for _ in range(30):
    for rows in torch.randperm(len(actions)).split(128):
        loss = nn.functional.cross_entropy(network(observations[rows]), actions[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(f"after: return {mean_return():.3f}, loss {loss.item():.2f}")
