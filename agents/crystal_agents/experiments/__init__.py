"""Experiments that run once, store their results and build reports from them."""
