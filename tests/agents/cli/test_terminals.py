"""Output on terminals whose encoding lacks characters of the output."""

import os
import subprocess
import sys

ASCII = {
    "PYTHONIOENCODING": "ascii",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
}


def test_ascii_terminals_get_replaced_characters(tmp_path, toy):
    path = tmp_path / "钙钛矿 Å.cif"
    toy.structure(4).to(filename=str(path), fmt="cif")
    script = f"""
import os
from crystal_agents.cli.main import main

path = os.fsdecode({os.fsencode(path)!r})
for argv in (["--help"], ["list"], ["prepare", path], ["build-dataset", path, "--splits", "train"]):
    assert main(argv) == 0, argv
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | ASCII | {"MINARI_DATASETS_PATH": str(tmp_path / "minari")},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    for words in (b"build-dataset", b"goldschmidt", b"cell lengths", b"expert-train-v0"):
        assert words in done.stdout
    assert b" ? |" in done.stdout  # Å
    (card,) = (tmp_path / "minari").rglob("README.md")
    assert str(path) in card.read_text("utf-8")
    assert path.stem in next((tmp_path / "minari").rglob("main_data.hdf5")).read_bytes().decode(
        "utf-8", "ignore"
    )
