"""Train PPO in one file, in the style of CleanRL, on the native vector environment.

    python examples/cleanrl_ppo.py

The return is the fraction of sites that get their true element; it is 1/65 by chance.
"""

import gymnasium as gym
import torch
from torch import nn
from torch.distributions import Categorical

N_ENVS, N_STEPS, UPDATES, EPOCHS, MINIBATCH = 256, 10, 50, 4, 320
GAMMA, LAMBDA, CLIP = 1.0, 0.95, 0.2

torch.manual_seed(0)
# With SameStep, the observation after the end of an episode is the first of the next one.
envs = gym.make_vec("crystal_gym:CrystalSkeletonFlat-v0", N_ENVS, autoreset_mode="SameStep")
width, n_actions = envs.single_observation_space.shape[0], int(envs.single_action_space.n)
actor = nn.Sequential(nn.Linear(width, 128), nn.Tanh(), nn.Linear(128, n_actions))
critic = nn.Sequential(nn.Linear(width, 128), nn.Tanh(), nn.Linear(128, 1))
optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=2e-3)

observations = torch.zeros(N_STEPS + 1, N_ENVS, width)
actions = torch.zeros(N_STEPS, N_ENVS, dtype=torch.long)
rewards, done = torch.zeros(N_STEPS, N_ENVS), torch.zeros(N_STEPS, N_ENVS)
observations[0] = torch.as_tensor(envs.reset(seed=0)[0])
for update in range(UPDATES):
    for t in range(N_STEPS):
        with torch.no_grad():
            actions[t] = Categorical(logits=actor(observations[t])).sample()
        following, reward, terminated, _, _ = envs.step(actions[t].numpy())
        observations[t + 1] = torch.as_tensor(following)
        rewards[t], done[t] = torch.as_tensor(reward), torch.as_tensor(terminated)
    if update in {0, UPDATES - 1}:
        print(f"update {update + 1}: return {rewards.sum() / done.sum():.3f}")

    with torch.no_grad():  # generalized advantage estimation
        values = critic(observations).squeeze(-1)
        log_old = Categorical(logits=actor(observations[:-1])).log_prob(actions)
        advantages = torch.zeros(N_STEPS + 1, N_ENVS)
        for t in reversed(range(N_STEPS)):
            delta = rewards[t] + GAMMA * values[t + 1] * (1 - done[t]) - values[t]
            advantages[t] = delta + GAMMA * LAMBDA * (1 - done[t]) * advantages[t + 1]
    parts = observations[:-1], actions, log_old, advantages[:-1], advantages[:-1] + values[:-1]
    batch = [part.flatten(0, 1) for part in parts]
    for _ in range(EPOCHS):
        for rows in torch.randperm(N_STEPS * N_ENVS).split(MINIBATCH):
            states, taken, old, advantage, target = (part[rows] for part in batch)
            policy = Categorical(logits=actor(states))
            ratio = (policy.log_prob(taken) - old).exp()
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            gain = torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
            error = (critic(states).squeeze(-1) - target).square()
            loss = (0.5 * error - gain - 0.01 * policy.entropy()).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    observations[0] = observations[-1]
