"""Policies: networks with a vocabulary that assign elements to sites, with saving and loading."""
