"""The command line: what users type, what they see, and the exit codes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from crystal_agents.cli import main as cli
from crystal_agents.cli.command import Command
from crystal_gym.errors import DownloadError, StorageError


@pytest.fixture
def run(capsys, monkeypatch):
    """Run the command line in this process: exit code, standard output, standard error."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*argv):
        code = cli.main([str(arg) for arg in argv])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


@pytest.fixture
def failing(monkeypatch):
    """A command `fail` that ends with the given exception."""

    def register(error):
        @dataclass
        class Fail(Command):
            """Fail."""

            after_stop = "Say it again."

            def run(self):
                raise error

        monkeypatch.setitem(cli.COMMANDS, "fail", Fail)

    return register


def test_help_lists_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    for name in cli.COMMANDS:
        assert f"• {name}" in out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_and_argument_explains_itself(run, name):
    code, out, _ = run(name, "--help")
    assert code == 0
    first_line = cli.COMMANDS[name].__doc__.splitlines()[0]
    assert first_line in " ".join(out.split())


@pytest.mark.parametrize(
    "argv",
    [(), ("craystals",), ("crystals",), ("crystals", "perov-5", "--nonsense"), ("list", "x")],
)
def test_bad_usage_ends_with_2(run, argv):
    code, _, err = run(*argv)
    assert code == 2
    assert "crystal-gym" in err


def test_an_unknown_collection_ends_with_2_and_names_the_known(run):
    code, out, err = run("prepare", "perov5")
    assert code == 2
    assert not out
    assert "Did you mean 'perov-5'?" in err


def test_labels_of_a_collection_without_any_end_with_2(run):
    code, _, err = run("prepare", "goldschmidt", "--labels")
    assert code == 2
    assert "labels" in err


def test_crystals_describes_the_embedded_collection(run):
    code, out, err = run("prepare", "goldschmidt")
    assert (code, err) == (0, "")
    assert "computed" in out
    for split in ("train", "val", "test"):
        assert split in out
    assert "Ti" in out


@pytest.fixture
def cif_folder(tmp_path, toy):
    folder = tmp_path / "cifs"
    folder.mkdir()
    for row in (2, 3, 4):
        toy.structure(row).to(filename=str(folder / f"crystal-{row}.cif"))
    return folder


def test_crystals_reads_a_folder_of_cif_files(run, cif_folder):
    code, out, _ = run("prepare", cif_folder)
    assert code == 0
    assert "3 crystals" in out


def test_list_names_collections_and_built_data_sets(run, monkeypatch, tmp_path):
    from crystal_gym.collections import COLLECTIONS

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    code, out, _ = run("list")
    assert code == 0
    assert all(name in out for name in COLLECTIONS)
    assert "No data set is built yet" in out


def test_list_shows_policies_and_tells_damaged_ones(run, tmp_path):
    for name, content in (("good", '{"network": "gcn", "symbols": ["O", "Ti"]}'), ("bad", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.json").write_text(content)
    code, out, _ = run("list", "--runs", tmp_path)
    assert code == 0
    assert "gcn" in out
    assert "damaged" in out


@pytest.fixture
def minari_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


@pytest.mark.usefixtures("minari_folder")
def test_build_writes_data_sets_that_list_shows_and_goes_on_where_it_stopped(run):
    build = ("build", "goldschmidt", "--trajectories", 1, "--splits")
    code, out, _ = run(*build, "val")
    assert code == 0
    assert "crystal-gym/goldschmidt/expert-val-v0: 209 episodes, 1,045 steps" in out

    code, out, _ = run(*build, "val", "test")
    assert code == 0
    assert "expert-val-v0: built already" in out
    assert "expert-test-v0: 210 episodes" in out

    code, out, _ = run("list")
    assert code == 0
    assert "expert-val-v0" in out
    assert "1,045" in out

    code, _, err = run(*build, "val", "--seed", 1)
    assert code == 2
    assert "--overwrite" in err
    code, out, _ = run(*build, "val", "--seed", 1, "--overwrite")
    assert code == 0
    assert "built in" in out


@pytest.mark.parametrize(
    ("wrong", "known"),
    [
        (("--splits", "val", "tset"), "Did you mean 'test'?"),
        (("--behavior", "expertt"), "Did you mean 'expert'?"),
        (("--trajectories", 0), "At least one start site"),
    ],
)
def test_build_tells_mistakes_before_it_writes_anything(run, minari_folder, wrong, known):
    code, _, err = run("build-dataset", "goldschmidt", *wrong)
    assert code == 2
    assert known in err
    assert not list(minari_folder.rglob("*.hdf5"))


@pytest.mark.usefixtures("minari_folder")
def test_train_and_evaluate_go_from_cif_files_to_figures(run, cif_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = ("train", cif_folder, "--recipe", "gcn", "--epochs", 2, "--accelerator", "cpu")

    code, _, err = run(*train)
    assert code == 2
    assert f"crystal-gym build-dataset {cif_folder}" in err

    code, *_ = run("build-dataset", cif_folder, "--splits", "train")
    assert code == 0
    code, out, _ = run(*train)
    assert code == 0
    assert "runs/cifs-gcn-seed-0" in out
    assert "cifs-gcn-seed-0" in run("list")[1]

    # Standard output is JSON and nothing else.
    code, out, _ = run("evaluate", "runs/cifs-gcn-seed-0", "--split", "train", "--json")
    assert code == 0
    rows = json.loads(out)["rows"]
    assert 0 <= rows["gcn"]["figures"]["accuracy"]["mean"] <= 1
    assert rows["true crystals"]["figures"]["accuracy"]["mean"] == 1

    code, out, _ = run("evaluate", "runs/cifs-gcn-seed-0", "--split", "train")
    assert code == 0
    assert "cifs, train" in out


@pytest.mark.usefixtures("minari_folder")
def test_splits_by_composition_go_from_build_to_figures_and_are_not_mixed_up(
    run, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    by_composition = ("--split-by", "composition")
    train = ("train", "goldschmidt", "--recipe", "gcn", "--epochs", 1, "--accelerator", "cpu")
    code, _, err = run(*train, *by_composition)
    assert code == 2
    assert "crystal-gym build-dataset goldschmidt --split-by composition" in " ".join(err.split())

    build = ("build", "goldschmidt", "--trajectories", 1, "--splits", "train")
    code, out, _ = run(*build, *by_composition)
    assert code == 0
    assert "crystal-gym/goldschmidt-by-composition/expert-train-v0: " in out
    code, out, _ = run(*train, *by_composition)
    folder = "runs/goldschmidt-by-composition-gcn-seed-0"
    assert code == 0
    assert f"Policy: {folder}" in out

    evaluate = ("evaluate", folder, "--sources", 1, "--no-floors", "--json")
    code, out, _ = run(*evaluate)
    assert code == 0
    assert json.loads(out)["collection"] == "goldschmidt-by-composition"
    # The other splits' test crystals may be its training crystals.
    code, out, err = run(*evaluate, "--split-by", "origin")
    assert (code, out) == (2, "")
    assert f"{folder} was trained on goldschmidt split by composition" in " ".join(err.split())
    code, out, _ = run(*evaluate, "--split-by", "origin", "--split", "all")
    assert code == 0
    assert json.loads(out)["collection"] == "goldschmidt"


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("train", "goldschmidt", "--recipe", "egn"), "Did you mean 'egnn'?"),
        (("evaluate",), "policy"),
        (("evaluate", "nowhere"), "Unknown policy (nor is it a folder) 'nowhere'"),
        (("evaluate", "damaged"), "policy.json is damaged"),
    ],
)
def test_mistakes_about_policies_end_with_2(run, tmp_path, monkeypatch, argv, told):
    monkeypatch.chdir(tmp_path)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "policy.json").write_text("{")
    (damaged / "policy.safetensors").touch()
    code, _, err = run(*argv)
    assert code == 2
    assert told in err


def test_an_absent_extra_is_named(run, failing):
    failing(ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"))
    code, _, err = run("fail")
    assert code == 1
    assert "crystal-gym[agents]" in err


@pytest.mark.parametrize(
    ("module", "argv", "extra"),
    [
        ("torch", ("train", "goldschmidt"), "agents"),
        ("torch", ("evaluate", "somewhere"), "agents"),
        ("minari", ("build", "goldschmidt"), "datasets"),
    ],
)
def test_without_an_extra_its_commands_say_what_to_install(module, argv, extra):
    code = f"""
import sys
from crystal_agents.cli import main

class Absent:
    def find_spec(name, *_):
        if name == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent)
sys.exit(main({list(argv)}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"pip install 'crystal-gym[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_module_of_our_own_is_not_hidden(failing):
    failing(ModuleNotFoundError("No module named 'crystal_gym.x'", name="crystal_gym.x"))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["fail"])


def test_list_works_without_the_data_set_extra(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    code, out, _ = run("list")
    assert code == 0
    assert "crystal-gym[datasets]" in out


def test_an_interrupted_command_says_how_to_go_on(run, failing):
    failing(KeyboardInterrupt())
    code, _, err = run("fail")
    assert code == 130
    assert "Say it again." in err


def test_an_interrupt_that_falls_into_a_destructor_is_not_lost(run, monkeypatch):
    class Deaf:
        def __del__(self):
            raise KeyboardInterrupt

    @dataclass
    class Wait(Command):
        """Wait."""

        def run(self):
            deaf = Deaf()
            del deaf
            for _ in range(1000):
                time.sleep(0.01)
            raise AssertionError("not interrupted")

    monkeypatch.setitem(cli.COMMANDS, "wait", Wait)
    # Shells start background processes deaf to interrupts.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run("wait")[0] == 130
    finally:
        signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("kind", [StorageError, DownloadError])
def test_a_full_disk_and_an_unreachable_address_end_with_1(run, failing, kind):
    failing(kind("No luck."))
    code, _, err = run("fail")
    assert code == 1
    assert "No luck." in err


def test_a_folder_of_the_same_name_is_not_taken_for_the_one_built(
    run, cif_folder, monkeypatch, tmp_path
):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    assert run("build-dataset", cif_folder, "--splits", "train")[0] == 0
    code, out, _ = run("build-dataset", cif_folder, "--splits", "train")
    assert code == 0
    assert "built already" in out
    other = tmp_path / "elsewhere" / cif_folder.name
    other.parent.mkdir()
    shutil.copytree(cif_folder, other)
    (other / "crystal-2.cif").unlink()
    code, _, err = run("build-dataset", other, "--splits", "train")
    assert code == 2
    assert "collection_sha256" in err


def test_splits_without_crystals_are_left_out_unless_named(run, cif_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    code, out, _ = run("build-dataset", cif_folder)
    assert code == 0
    assert "no crystals in val, test: left out" in out
    code, _, err = run("build-dataset", cif_folder, "--splits", "train", "val")
    assert code == 2
    assert "no crystals in val" in err


def test_a_failure_of_the_system_ends_with_1(run, failing):
    failing(PermissionError(13, "Permission denied", "/some/file"))
    code, _, err = run("fail")
    assert code == 1
    assert "/some/file: Permission denied" in err


def test_a_reader_that_leaves_early_is_no_error_to_show():
    command = [str(Path(sys.executable).with_name("crystal-gym")), "crystals", "goldschmidt"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.returncode == 1
    assert not done.stderr
