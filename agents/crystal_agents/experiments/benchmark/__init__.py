"""The benchmark of behavioral cloning against reinforcement learning."""
