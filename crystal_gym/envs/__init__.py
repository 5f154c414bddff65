"""The environments ``CrystalSkeleton-v0``: single and vectorized."""
