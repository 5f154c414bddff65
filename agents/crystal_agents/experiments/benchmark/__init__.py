"""Benchmark of behavioral cloning against online and offline reinforcement learning."""
