"""The code in the documents runs, and their links and commands exist."""

import re
import shlex
from pathlib import Path

import pytest

from crystal_agents.cli import main as cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Commands that need a download or a checkout, or take minutes, are not run.
LONG = (
    *("perov-5", "mp-20", "make ", "pip "),
    *("crystal-gym train", "crystal-gym demo", "crystal-gym reproduce"),
    *("crystal-gym finetune", "crystal-gym benchmark", "crystal-gym leaderboard"),
)


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    names = {"__name__": "page"}
    for language, code in re.findall(
        r"^```(python|sh)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
    ):
        if language == "python":
            exec(compile(code, str(page), "exec"), names)  # noqa: S102 - code of this project
            continue
        for line in code.splitlines():
            if line.startswith("crystal-gym ") and not any(part in line for part in LONG):
                assert cli.main(shlex.split(line, comments=True)[1:]) == 0, line


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("*/README.md")], ids=name_of)
def test_links_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_commands_exist():
    for page in PAGES:
        for command in re.findall(
            r"(?:^|`)crystal-gym ([a-z][a-z-]*)", page.read_text(), re.MULTILINE
        ):
            assert command in cli.COMMANDS, f"{name_of(page)}: crystal-gym {command}"
