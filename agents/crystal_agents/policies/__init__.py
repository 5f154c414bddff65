"""Policies: networks with a vocabulary that are saved, loaded, and assign elements to sites."""
