"""Online reinforcement learning with Stable-Baselines3, from a cloned policy or from scratch."""
