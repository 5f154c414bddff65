"""Evaluation: fillings by policies and baselines, their metrics, returns and statistics."""
