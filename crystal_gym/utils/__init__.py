"""Files, settings, lazy imports and progress bars."""
