"""Train PPO with TorchRL on the native vector environment.

    python examples/torchrl_ppo.py

TorchRL is part of the extra `offline` of crystal-gym. The return is the fraction of sites that get
their true element; it is 1/65 by chance.
"""

import gymnasium as gym
import torch
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper
from torchrl.modules import OneHotCategorical, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

N_ENVS, N_STEPS, UPDATES, EPOCHS, MINIBATCH = 128, 10, 50, 4, 320

torch.manual_seed(0)
# TorchRL resets each environment itself at the end of its episode.
envs = gym.make_vec("crystal_gym:CrystalSkeletonFlat-v0", N_ENVS, autoreset_mode="Disabled")
env = GymWrapper(envs)
env.set_seed(0)
width, n_actions = envs.single_observation_space.shape[0], int(envs.single_action_space.n)
logits = nn.Sequential(nn.Linear(width, 128), nn.Tanh(), nn.Linear(128, n_actions))
actor = ProbabilisticActor(
    TensorDictModule(logits, ["observation"], ["logits"]),
    in_keys=["logits"],
    distribution_class=OneHotCategorical,
    return_log_prob=True,
)
critic = ValueOperator(nn.Sequential(nn.Linear(width, 128), nn.Tanh(), nn.Linear(128, 1)))
advantage = GAE(gamma=1.0, lmbda=0.95, value_network=critic)
loss = ClipPPOLoss(actor, critic, entropy_coeff=0.01, normalize_advantage=True)
optimizer = torch.optim.Adam(loss.parameters(), lr=2e-3)

steps = N_ENVS * N_STEPS
frames = {"frames_per_batch": steps, "total_frames": UPDATES * steps}
collector = Collector(env, actor, **frames, auto_register_policy_transforms=False)
for update, data in enumerate(collector):
    if update in {0, UPDATES - 1}:
        mean_return = data["next", "reward"].sum() / data["next", "done"].sum()
        print(f"update {update + 1}: return {mean_return:.3f}")
    with torch.no_grad():
        advantage(data)
    batch = data.reshape(-1)
    for _ in range(EPOCHS):
        for rows in torch.randperm(steps).split(MINIBATCH):
            losses = loss(batch[rows])
            total = losses["loss_objective"] + losses["loss_entropy"] + losses["loss_critic"]
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
collector.shutdown()
