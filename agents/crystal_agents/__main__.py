"""``python -m crystal_agents``: the command line ``crystal-gym``."""

import sys

from crystal_agents.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
