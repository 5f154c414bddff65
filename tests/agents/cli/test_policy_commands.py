"""Commands on policies: train, evaluate."""

import json
from importlib.metadata import version

import pytest


@pytest.mark.usefixtures("minari_folder")
def test_train_and_evaluate_on_a_folder_of_cif_files(run, cif_folder, tmp_path, monkeypatch):
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
    report = json.loads(out)
    assert report["policies"] == {"runs/cifs-gcn-seed-0": {"seed": 0, "finetuned": False}}
    assert {"hardware", "versions", "date"} <= set(report)
    rows = report["rows"]
    assert 0 <= rows["gcn"]["metrics"]["accuracy"]["mean"] <= 1
    assert rows["ground truth"]["metrics"]["accuracy"]["mean"] == 1

    code, out, _ = run("evaluate", "runs/cifs-gcn-seed-0", "--split", "train")
    assert code == 0
    assert "cifs, train" in out
    for rule in ("smact14", "icsd24", "strict"):
        assert f"{rule} (SMACT {version('smact')}" in out


@pytest.mark.usefixtures("minari_folder")
def test_splits_by_composition_are_separate_from_those_of_the_origin(
    run, perovskites, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    by_composition = ("--split-by", "composition")
    train = ("train", perovskites, "--recipe", "gcn", "--epochs", 1, "--accelerator", "cpu")
    code, _, err = run(*train, *by_composition)
    assert code == 2
    assert f"crystal-gym build-dataset {perovskites} --split-by composition" in " ".join(
        err.split()
    )

    build = ("build-dataset", perovskites, "--trajectories", 1, "--splits", "train")
    code, out, _ = run(*build, *by_composition)
    assert code == 0
    assert "crystal-gym/perovskites-by-composition/expert-train-v0: " in out
    code, out, _ = run(*train, *by_composition)
    folder = "runs/perovskites-by-composition-gcn-seed-0"
    assert code == 0
    assert f"Policy: {folder}" in out

    evaluate = ("evaluate", folder, "--start-sites", 1, "--no-baselines", "--json")
    code, out, _ = run(*evaluate)
    assert code == 0
    assert json.loads(out)["collection"] == "perovskites-by-composition"
    # Test crystals of the other splits can be training crystals of this policy.
    code, out, err = run(*evaluate, "--split-by", "origin")
    assert (code, out) == (2, "")
    assert f"{folder} was trained on {perovskites} split by composition" in " ".join(err.split())
    code, out, _ = run(*evaluate, "--split-by", "origin", "--split", "all")
    assert code == 0
    assert json.loads(out)["collection"] == "perovskites"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("train", "goldschmidt", "--recipe", "egn"), "Did you mean 'egnn'?"),
        (("evaluate",), "policy"),
        (("evaluate", "nowhere"), "Unknown policy (nor is it a folder) 'nowhere'"),
        (("evaluate", "damaged"), "policy.json is damaged"),
    ],
)
def test_invalid_policies_exit_with_2(run, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "policy.json").write_text("{")
    (damaged / "policy.safetensors").touch()
    code, _, err = run(*argv)
    assert code == 2
    assert message in err


@pytest.mark.usefixtures("minari_folder")
def test_a_calibrated_policy_is_evaluated_by_groups(run, tmp_path):
    calibrate = ("calibrate", "goldschmidt/egnn", "--output", tmp_path / "calibrated")
    code, _, err = run(*calibrate)
    assert code == 2
    assert "crystal-gym build-dataset goldschmidt" in " ".join(err.split())
    assert run("build-dataset", "goldschmidt", "--splits", "val", "--trajectories", 1)[0] == 0
    code, out, _ = run(*calibrate)
    assert code == 0
    assert out.startswith("Temperature ")
    assert run(*calibrate)[0] == 2  # the folder exists

    options = ("--crystals", 12, "--by", "element", "class", "--structure-matcher", "--beam", 2)
    evaluate = ("evaluate", tmp_path / "calibrated", "--mask", "composition", *options)
    code, out, _ = run(*evaluate, "--json")
    assert code == 0
    report = json.loads(out)
    assert (report["n_crystals"], report["beam"], report["crystals"]) == (12, 2, 12)
    masked, random = report["rows"]["egnn, masked"], report["rows"]["random assignment"]
    assert {"structure_match", "composition", "beam"} <= set(masked["metrics"])
    assert set(random["metrics"]) == {"accuracy", "exact", "beam", "composition"}
    assert set(masked["groups"]["class"]) == {"anion", "cation"}
    assert masked["groups"]["class"]["anion"]["n_sites"] == 36

    code, out, _ = run(*evaluate)
    assert code == 0
    for text in ("Further metrics", "By class", "By element", "random assignment"):
        assert text in out
    code, _, err = run("evaluate", "goldschmidt/egnn", "--beam", 0)
    assert code == 2
    assert "beam width of at least 1" in err
