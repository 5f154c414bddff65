"""Publication of a trained policy: files, model card, checksums and errors."""

import dataclasses
import json

import pytest
import torch
from publish_policy import PublishArgs, publish, training_command

from crystal_agents import load_policy, pretrained_policies
from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_agents.policies.pretrained import CARD_FILE, CHECKSUMS_FILE, pretrained_folder
from crystal_agents.training.recipes import RECIPES
from crystal_gym import load_collection
from crystal_gym.errors import CrystalGymError, DamagedFileError
from crystal_gym.utils.files import sha256

SMALL = {"hidden": 16, "vectors": 4, "geometry_layers": 1, "filling_layers": 1}
TRAINING = {
    "collection": "goldschmidt",
    "collection_sha256": "ab" * 32,
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


def mean_with_interval(mean):
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}


REPORT = {
    "collection": "goldschmidt",
    "collection_sha256": "ab" * 32,
    "split": "test",
    "n_crystals": 210,
    "n_start_sites": 5,
    "validity_rules": {"smact14": "smact14 (SMACT 4)", "strict": "strict (SMACT 4)"},
    "rows": {
        "egnn": {
            "runs": 1,
            "metrics": {
                "accuracy": mean_with_interval(0.4567),
                "unique": {"mean": 0.5, "low": 0.5, "high": 0.5},
            },
            "per_site": [0.11, 0.22, 0.33, 0.44, None],
        },
        "uniform": {
            "runs": 1,
            "metrics": {"accuracy": mean_with_interval(0.0179)},
            "per_site": [],
        },
    },
}


@pytest.fixture
def args(tmp_path):
    """Return the arguments for a small policy, its report and an empty package."""
    torch.manual_seed(0)
    symbols = load_collection("goldschmidt").vocabulary.symbols
    policy = SkeletonPolicy(PolicyConfig("egnn", symbols, 5, SMALL, TRAINING))
    policy.save(tmp_path / "run")
    (tmp_path / "test.json").write_text(json.dumps(REPORT))
    return PublishArgs(
        run=tmp_path / "run",
        reports=(tmp_path / "test.json",),
        hardware="an abacus",
        package=tmp_path / "package",
    )


def test_a_published_policy_has_rounded_weights_and_a_model_card(args):
    assert publish(args) == "goldschmidt/egnn"
    assert pretrained_policies(args.package) == ("goldschmidt/egnn",)
    folder = pretrained_folder("goldschmidt/egnn", args.package)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "policy.json",
        "policy.safetensors",
    ]
    trained, published = load_policy(args.run), load_policy(folder)
    assert published.config == trained.config
    for key, value in published.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(trained.state_dict()[key].half().float(), value)
    card = (folder / "README.md").read_text()
    for text in (
        "# goldschmidt/egnn",
        "`crystal-gym train goldschmidt --recipe egnn --epochs 7 --trajectories 3 --seed 4`",
        "1.5 minutes on an abacus",
        "### Test\n\n210 crystals, up to 5 start sites each",
        "`crystal-gym evaluate goldschmidt/egnn --split test`",
        "intervals over the crystals",
        "| metric | this policy | 95 % | uniform | definition |",
        "| accuracy | 45.67 | 44.67 to 46.67 | 1.79 | accuracy: filled sites with the true element",
        "| unique | 50.00 |  |  | distinct fillings",
        "Validity rules: smact14 (SMACT 4); strict (SMACT 4).",
        "Accuracy by site: 11.00, 22.00, 33.00, 44.00, .",
        "computed (not measured)",
    ):
        assert text in card


def test_publishing_replaces_a_policy_and_keeps_others(args):
    publish(args)
    first = sha256(args.package / "goldschmidt/egnn/policy.safetensors")
    checksums = json.loads((args.package / CHECKSUMS_FILE).read_text())
    (args.package / "perov-5/egnn").mkdir(parents=True)
    (args.package / "perov-5/egnn/policy.json").write_text("{}")
    checksums["perov-5/egnn"] = {"policy.json": sha256(args.package / "perov-5/egnn/policy.json")}
    (args.package / CHECKSUMS_FILE).write_text(json.dumps(checksums))
    policy = load_policy(args.run)
    with torch.no_grad():
        next(policy.parameters()).add_(1)
    policy.save(args.run)
    publish(args)
    assert pretrained_policies(args.package) == ("goldschmidt/egnn", "perov-5/egnn")
    assert pretrained_folder("perov-5/egnn", args.package)
    folder = pretrained_folder("goldschmidt/egnn", args.package)
    assert sha256(folder / "policy.safetensors") != first


def test_policies_of_one_network_have_different_names(args):
    publish(args)
    name = publish(dataclasses.replace(args, name="egnn-large"))
    assert name == "goldschmidt/egnn-large"
    assert pretrained_policies(args.package) == ("goldschmidt/egnn", "goldschmidt/egnn-large")
    assert 'load_policy("goldschmidt/egnn-large")' in (args.package / name / CARD_FILE).read_text()


def test_model_card_reports_the_number_of_runs(args):
    report = json.loads(json.dumps(REPORT))
    report["rows"]["egnn"]["runs"] = 3
    args.reports[0].write_text(json.dumps(report))
    publish(args)
    card = (args.package / "goldschmidt/egnn/README.md").read_text()
    assert "over 3 runs with different seeds; these weights are those of seed 4" in card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"collection": "perov-5"},
            "row 'egnn' of 'goldschmidt' .* got 'egnn', 'uniform' of 'perov-5'",
        ),
        ({"rows": {"gcn": {}}}, "--row"),
        ({"collection_sha256": "cd" * 32}, "SHA-256 abababababab.*SHA-256 cdcdcdcdcdcd"),
    ],
)
def test_reports_of_other_policies_raise(args, changes, message):
    args.reports[0].write_text(json.dumps(REPORT | changes))
    with pytest.raises(CrystalGymError, match=message):
        publish(args)
    assert pretrained_policies(args.package) == ()


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_files_that_are_not_reports_raise(args, content):
    args.reports[0].write_text(content)
    with pytest.raises(DamagedFileError, match=r"Expected a report of .* in .*test\.json"):
        publish(args)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"collection": "/my/cifs"}, "Expected .* to be trained on a named collection"),
        ({"split_by": "composition"}, "got splits by composition"),
        ({"finetuning": [{"steps": 640}]}, "got a fine-tuned policy"),
        ({"recipe": TRAINING["recipe"] | {"clip": 3.0}}, "--command"),
        ({"recipe": TRAINING["recipe"] | {"warmup": 3}}, "recipe of this version .*warmup"),
    ],
)
def test_policies_that_cannot_be_reproduced_raise(args, changes, message):
    policy = load_policy(args.run)
    policy.config.training.update(changes)
    policy.save(args.run)
    with pytest.raises(CrystalGymError, match=message):
        publish(args)
    assert not args.package.exists()


def test_a_given_command_and_row_are_used(args):
    assert publish(dataclasses.replace(args, command="a command", row="uniform"))
    card = (args.package / "goldschmidt/egnn/README.md").read_text()
    assert "| command | `a command` |" in card


@pytest.mark.parametrize("name", RECIPES)
def test_command_contains_the_recipe(name):
    training = TRAINING | {"recipe": dataclasses.asdict(RECIPES[name])}
    command = training_command(training)
    assert command == f"crystal-gym train goldschmidt --recipe {name} --trajectories 3 --seed 4"


def test_a_package_that_is_too_large_raises(args, monkeypatch):
    monkeypatch.setattr("publish_policy.MOST_BYTES", 10_000)
    with pytest.raises(CrystalGymError, match="at most 0 MB"):
        publish(args)
    assert pretrained_policies(args.package) == ()


def test_model_card_reports_groups_and_other_crystals(args, tmp_path):
    group = {"n_sites": 1234, "n_crystals": 400, "metrics": {"accuracy": mean_with_interval(0.8)}}
    report = json.loads(json.dumps(REPORT))
    report["rows"]["egnn"]["groups"] = {"class": {"anion": group}}
    (tmp_path / "test.json").write_text(json.dumps(report))
    metrics = {
        key: mean_with_interval(0.25) for key in ("accuracy", "teacher_forced", "top5", "ece")
    }
    others = {"sets": {"allotropes": {"crystals": 5, "most sites": 8, **metrics}}}
    (tmp_path / "others.json").write_text(json.dumps(others))
    args = dataclasses.replace(args, other_crystals=tmp_path / "others.json")
    card = (args.package / publish(args) / "README.md").read_text()
    assert "| anion | 1,234 | 80.00 |" in card
    assert "| allotropes | 5 | 8 | 25.00 | 24.00 to 26.00 | 25.00 | 25.00 | 25.00 |" in card
    assert "It was not evaluated on" not in card


@pytest.mark.parametrize("content", ["", "[]", '{"sets": {"a": {}}}'])
def test_files_that_are_no_metrics_of_other_crystals_raise(args, tmp_path, content):
    (tmp_path / "others.json").write_text(content)
    with pytest.raises(DamagedFileError, match=r"out_of_distribution\.py --json"):
        publish(dataclasses.replace(args, other_crystals=tmp_path / "others.json"))
