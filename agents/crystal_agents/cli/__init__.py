"""The command line ``crystal-gym``: one file per command."""
