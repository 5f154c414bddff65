"""Trained policies that come with the package: shipped, verified, listed and loaded."""

import dataclasses
import json

import pytest
import torch

from crystal_agents import load_policy, pretrained_policies
from crystal_agents.cli import main as cli
from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_agents.policies.pretrained import CHECKSUMS_FILE, PACKAGE, pretrained_folder
from crystal_agents.training.recipes import RECIPES
from crystal_gym import load_collection
from crystal_gym.errors import CrystalGymError, DamagedFileError, UnknownNameError
from crystal_gym.utils.files import sha256
from tools.publish_policy import MOST_BYTES, Args, ship, training_command

SMALL = {"hidden": 16, "vectors": 4, "geometry_layers": 1, "filling_layers": 1}
TRAINING = {
    "collection": "goldschmidt",
    "data": "crystal-gym/goldschmidt/expert-train-v0",
    "trajectories": 3,
    "recipe": dataclasses.asdict(dataclasses.replace(RECIPES["egnn"], epochs=7)),
    "seed": 4,
    "transitions": 15725,
    "epochs": 7,
    "steps": 350,
    "seconds": 90.0,
    "precision": "32-true",
}


def estimate(mean):
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}


REPORT = {
    "collection": "goldschmidt",
    "split": "test",
    "n_crystals": 210,
    "n_start_sites": 5,
    "rows": {
        "egnn": {
            "runs": 1,
            "figures": {
                "accuracy": estimate(0.4567),
                "unique": {"mean": 0.5, "low": 0.5, "high": 0.5},
            },
            "per_site": [0.11, 0.22, 0.33, 0.44, None],
        },
        "uniform": {"runs": 1, "figures": {"accuracy": estimate(0.0179)}, "per_site": []},
    },
}


@pytest.fixture
def args(tmp_path):
    """A tiny policy, its report, and an empty package."""
    torch.manual_seed(0)
    symbols = load_collection("goldschmidt").vocabulary.symbols
    policy = SkeletonPolicy(PolicyConfig("egnn", symbols, 5, SMALL, TRAINING))
    policy.save(tmp_path / "run")
    (tmp_path / "test.json").write_text(json.dumps(REPORT))
    return Args(
        run=tmp_path / "run",
        reports=(tmp_path / "test.json",),
        hardware="an abacus",
        package=tmp_path / "package",
    )


def test_every_shipped_policy_is_whole_and_described():
    for name in pretrained_policies():
        folder = pretrained_folder(name)
        policy = load_policy(name)
        assert name == f"{policy.config.training['collection']}/{policy.config.network}"
        card = (folder / "README.md").read_text()
        for told in ("## Scores", "| command | `crystal-gym ", "seed", "licence", "limits"):
            assert told in card
        assert "NaN" not in card


def test_goldschmidt_is_there():
    assert "goldschmidt/egnn" in pretrained_policies()
    policy = load_policy("goldschmidt/egnn")
    assert policy.vocabulary == load_collection("goldschmidt").vocabulary


def test_nothing_lies_in_the_package_that_is_not_shipped():
    checksums = json.loads((PACKAGE / CHECKSUMS_FILE).read_text())
    listed = {f"{name}/{file}" for name, files in checksums.items() for file in files}
    there = {
        path.relative_to(PACKAGE).as_posix() for path in PACKAGE.glob("*/*/*") if path.is_file()
    }
    assert there == listed
    assert sum((PACKAGE / file).stat().st_size for file in listed) <= MOST_BYTES


def test_a_policy_is_shipped_with_a_card_of_measured_figures(args):
    assert ship(args) == "goldschmidt/egnn"
    assert pretrained_policies(args.package) == ("goldschmidt/egnn",)
    folder = pretrained_folder("goldschmidt/egnn", args.package)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "policy.json",
        "policy.safetensors",
    ]
    mine, shipped = load_policy(args.run), load_policy(folder)
    assert shipped.config == mine.config
    for key, value in shipped.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(mine.state_dict()[key].half().float(), value)
    card = (folder / "README.md").read_text()
    for told in (
        "# goldschmidt/egnn",
        "`crystal-gym train goldschmidt --recipe egnn --epochs 7 --trajectories 3 --seed 4`",
        "1.5 minutes on an abacus",
        "### Test\n\n210 crystals, up to 5 start sites each",
        "`crystal-gym evaluate goldschmidt/egnn --split test`",
        "interval over crystals",
        "| figure | this policy | 95 % | uniform | meaning |",
        "| accuracy | 45.67 | 44.67 to 46.67 | 1.79 | sites filled as in the crystal",
        "| unique | 50.00 |  |  | distinct fillings",
        "Accuracy by site: 11.00, 22.00, 33.00, 44.00, .",
        "computed (not measured)",
    ):
        assert told in card


def test_a_policy_is_replaced_and_others_stay(args, tmp_path):
    ship(args)
    first = sha256(args.package / "goldschmidt/egnn/policy.safetensors")
    other = json.loads((args.package / CHECKSUMS_FILE).read_text())
    (args.package / "perov-5/egnn").mkdir(parents=True)
    (args.package / "perov-5/egnn/policy.json").write_text("{}")
    other["perov-5/egnn"] = {"policy.json": sha256(args.package / "perov-5/egnn/policy.json")}
    (args.package / CHECKSUMS_FILE).write_text(json.dumps(other))
    policy = load_policy(args.run)
    with torch.no_grad():
        next(policy.parameters()).add_(1)
    policy.save(args.run)
    ship(args)
    assert pretrained_policies(args.package) == ("goldschmidt/egnn", "perov-5/egnn")
    assert pretrained_folder("perov-5/egnn", args.package)
    folder = pretrained_folder("goldschmidt/egnn", args.package)
    assert sha256(folder / "policy.safetensors") != first


def test_several_runs_in_a_report_are_told(args):
    report = json.loads(json.dumps(REPORT))
    report["rows"]["egnn"]["runs"] = 3
    args.reports[0].write_text(json.dumps(report))
    ship(args)
    card = (args.package / "goldschmidt/egnn/README.md").read_text()
    assert "over 3 runs that differ in their seed; the weights here are of seed 4" in card


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"collection": "perov-5"}, "'egnn', 'uniform' on 'perov-5', not 'egnn' on 'goldschmidt'"),
        ({"rows": {"gcn": {}}}, "--row"),
    ],
)
def test_reports_of_others_are_refused(args, changes, told):
    args.reports[0].write_text(json.dumps(REPORT | changes))
    with pytest.raises(CrystalGymError, match=told):
        ship(args)
    assert pretrained_policies(args.package) == ()


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_files_that_are_no_reports_are_refused(args, content):
    args.reports[0].write_text(content)
    with pytest.raises(DamagedFileError, match=r"test\.json is no report"):
        ship(args)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"collection": "/my/cifs"}, "only policies of a named collection"),
        ({"split_by": "composition"}, "split by composition"),
        ({"finetuning": [{"steps": 640}]}, "was fine-tuned"),
        ({"recipe": TRAINING["recipe"] | {"clip": 3.0}}, "--command"),
    ],
)
def test_policies_that_cannot_be_made_again_are_refused(args, changes, told):
    policy = load_policy(args.run)
    policy.config.training.update(changes)
    policy.save(args.run)
    with pytest.raises(CrystalGymError, match=told):
        ship(args)
    assert not args.package.exists()


def test_a_command_can_be_given_and_every_recipe_is_found(args):
    assert ship(dataclasses.replace(args, command="a command", row="uniform"))
    card = (args.package / "goldschmidt/egnn/README.md").read_text()
    assert "| command | `a command` |" in card
    for name, recipe in RECIPES.items():
        record = TRAINING | {"recipe": dataclasses.asdict(recipe)}
        told = training_command(record)
        assert told == f"crystal-gym train goldschmidt --recipe {name} --trajectories 3 --seed 4"


def test_too_much_is_refused(args, monkeypatch):
    monkeypatch.setattr("tools.publish_policy.MOST_BYTES", 10_000)
    with pytest.raises(CrystalGymError, match="0 MB is the most"):
        ship(args)
    assert pretrained_policies(args.package) == ()


@pytest.mark.parametrize(
    ("file", "told"),
    [("policy.safetensors", "altered or damaged"), ("README.md", "altered or damaged")],
)
def test_altered_and_missing_files_are_told(args, monkeypatch, file, told):
    ship(args)
    path = args.package / "goldschmidt/egnn" / file
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(DamagedFileError, match=told):
        pretrained_folder("goldschmidt/egnn", args.package)
    path.unlink()
    with pytest.raises(DamagedFileError, match="missing: install"):
        pretrained_folder("goldschmidt/egnn", args.package)


def test_damaged_checksums_are_told(args):
    ship(args)
    (args.package / CHECKSUMS_FILE).write_text("{")
    with pytest.raises(DamagedFileError, match=r"checksums\.json is damaged"):
        pretrained_policies(args.package)


def test_names_go_before_folders_and_unknown_ones_are_told(args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = load_policy(args.run)
    own.save(tmp_path / "goldschmidt/egnn")
    assert load_policy("goldschmidt/egnn").config != own.config
    assert load_policy("./goldschmidt/egnn").config == own.config
    assert load_policy(tmp_path / "goldschmidt/egnn").config == own.config
    with pytest.raises(UnknownNameError, match="Did you mean 'goldschmidt/egnn'"):
        load_policy("goldschmidt/egn")
    ship(args)
    with pytest.raises(UnknownNameError, match="Known: goldschmidt/egnn"):
        pretrained_folder("nothing", args.package)


def test_the_command_line_lists_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert cli.main(["list", "--runs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in pretrained_policies())


def test_the_command_line_evaluates_them(capsys):
    assert cli.main(["evaluate", "goldschmidt/egnn", "--sources", "1", "--no-floors"]) == 0
    assert "goldschmidt, test" in capsys.readouterr().out
