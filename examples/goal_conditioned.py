"""Ask for a heat of formation: goal-conditioned behavioral cloning on Perov-5.

    python examples/goal_conditioned.py

The target of each training episode is the DFT heat of its own crystal. On skeletons of val, the
cloned policy is asked for other heats, and the heats of the crystals that it makes are looked up.
The baseline is the same network without the target.
"""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from crystal_gym import load_collection


def fill(split: str, act: Callable, **options: list) -> tuple[Tensor, Tensor, np.ndarray]:
    """Fill the crystals of a split; return the observations and actions, and the final heats."""
    rows = load_collection("perov-5").in_split(split)
    settings = {"collection": "perov-5", "target": ["heat_all"], "reward": "perov5-dft"}
    envs = gym.make_vec("crystal_gym:CrystalSkeletonFlat-v0", num_envs=len(rows), **settings)
    observation, _ = envs.reset(seed=0, options={"crystal": rows, **options})
    observations, actions, infos = [], [], {}
    for _ in range(5):
        observations.append(torch.as_tensor(observation))
        actions.append(torch.as_tensor(act(envs, observations[-1])))
        observation, _, _, _, infos = envs.step(actions[-1].numpy())
    return torch.cat(observations), torch.cat(actions), infos["heat"]


def clone(observations: Tensor, actions: Tensor, use_target: int) -> Callable:
    """Train a network on the actions; return a function that chooses the most probable ones."""
    torch.manual_seed(0)
    size = observations.shape[1]
    hidden = nn.Linear(size, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU()
    network = nn.Sequential(nn.BatchNorm1d(size), *hidden, nn.Linear(256, 56))
    seen = torch.ones(size)
    seen[-1] = use_target  # the last number of an observation
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    for batch in torch.cat([torch.randperm(len(actions)) for _ in range(5)]).split(256):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(observations[batch] * seen), actions[batch]).backward()
        optimizer.step()
    network.eval()
    return lambda _, observations: network(observations * seen).argmax(1)


expert = fill("train", lambda envs, _: envs.unwrapped.expert_action())
asked = np.linspace(0, 3, 7)
for name, use_target in (("with target", 1), ("without target", 0)):
    policy = clone(*expert[:2], use_target)
    heats = np.stack([fill("val", policy, target=[heat])[2] for heat in asked])
    known = np.isfinite(heats)  # the fillings that are crystals of Perov-5
    correlation = np.corrcoef(np.repeat(asked, known.sum(1)), heats[known])[0, 1]
    print(f"{name}: asked for {asked} eV/atom, measured on average {np.nanmean(heats, 1).round(2)}")
    print(f"  correlation {correlation:.2f}, {known.mean():.1%} of the fillings have a label")
