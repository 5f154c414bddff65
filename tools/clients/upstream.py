"""Run the reproductions in ``docs/upstream`` and compare their output with the pages."""

import re
import subprocess
import sys
from pathlib import Path

from common import expect

PAGES = Path(__file__).resolve().parents[2] / "docs" / "upstream"


def confirm(page: str) -> str:
    """Run the first code block of a page; its output is to equal the block after ``Observed:``.

    Args:
        page: Name of the page, without ``.md``.

    Raises:
        AssertionError: If the output differs, as it does after the defect is corrected.
    """
    text = (PAGES / f"{page}.md").read_text()
    code = re.search(r"```py\n(.*?)```", text, re.DOTALL)
    observed = re.search(r"Observed:\n\n```\n(.*?)```", text, re.DOTALL)
    if code is None or observed is None:
        raise AssertionError(f"Expected a reproduction and its output in docs/upstream/{page}.md.")
    result = subprocess.run(  # noqa: S603 - the interpreter of this environment
        [sys.executable, "-W", "ignore", "-c", code[1]], check=True, capture_output=True, text=True
    )
    expected = observed[1].splitlines()
    # Clients log to the standard output as well.
    output = [line for line in result.stdout.splitlines() if line in expected]
    expect(output == expected, f"the output of {page} differs: {result.stdout}")
    return f"docs/upstream/{page}.md is reproduced"
