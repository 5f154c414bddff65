"""Online reinforcement learning with Stable-Baselines3, begun from a cloned policy or from none."""
