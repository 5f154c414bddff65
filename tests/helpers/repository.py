"""The files of the repository, for tests that check all of them."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def repository_files(*patterns):
    """Return the files that git tracks or does not ignore, by glob patterns."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.split() if (ROOT / name).is_file()]
