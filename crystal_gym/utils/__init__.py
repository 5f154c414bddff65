"""Files, errors of storage, identities of collections, settings, lazy imports, progress bars."""
