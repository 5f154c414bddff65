"""Behavioral cloning and offline RL on transitions of an expert or of any other behavior policy."""
