"""Reproduction of the paper's experiments: runs, results, tables and plots."""
