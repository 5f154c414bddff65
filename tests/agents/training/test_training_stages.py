"""Comparison of the crystals of a policy's training with those of a collection."""

import json

import pytest
from repository import ROOT

from crystal_agents import load_policy, pretrained_policies
from crystal_agents.policies.policy import PolicyConfig
from crystal_agents.training.training_stages import compare_crystals, training_stages
from crystal_gym import load_collection
from crystal_gym.errors import CollectionMismatchError, MissingDataError


@pytest.fixture
def compare(toy):
    """A function that compares the toy crystals with those of a training record."""
    by_composition = toy.split_by_composition()

    def load(split_by):
        return by_composition if split_by == "composition" else toy

    def compare(*stages, origin="/x/toy.csv", split_by="origin", **options):
        training = {"recipe": {}, **stages[0], "finetuning": list(stages[1:])}
        config = PolicyConfig("gcn", toy.vocabulary.symbols, toy.max_sites, {}, training)
        collection = load(split_by)
        return compare_crystals(
            config, "runs/a", collection, origin=origin, split_by=split_by, load=load, **options
        )

    return compare


def stage(origin, sha256=None, split_by="origin"):
    fingerprint = {} if sha256 is None else {"collection_sha256": sha256}
    return {"collection": origin, "split_by": split_by, **fingerprint}


def test_same_crystals_have_no_note(toy, compare):
    assert compare({}) is None
    for origin in ("/x/toy.csv", "/moved/toy.csv"):
        assert compare(stage(origin, toy.fingerprint())) is None
        assert compare(stage(origin, ["ab" * 32, toy.fingerprint()])) is None


@pytest.mark.parametrize("sha256", ["ab" * 32, ["ab" * 32, "cd" * 32], None])
def test_other_collections_have_a_note(toy, compare, sha256):
    note = compare(stage("perov-5", sha256))
    assert note.startswith("runs/a was trained on perov-5 (")
    assert f"/x/toy.csv (SHA-256 {toy.fingerprint()[:12]})" in note


def test_every_stage_is_compared(toy, compare):
    tuned = stage("/x/toy.csv", toy.fingerprint())
    assert "trained on perov-5 (" in compare(stage("perov-5", "ab" * 32), tuned)
    assert compare(tuned, tuned) is None
    with pytest.raises(CollectionMismatchError, match="have changed since"):
        compare(tuned, stage("/x/toy.csv", "ab" * 32))


def test_changed_crystals_raise(toy, compare):
    for split_by in ("origin", "composition"):
        with pytest.raises(CollectionMismatchError, match="have changed since") as caught:
            compare(stage("/x/toy.csv", "ab" * 32, split_by), any_splits=True)
        assert "SHA-256 abababababab" in str(caught.value)


def test_records_without_a_fingerprint_have_a_note_unless_the_files_cannot_change(compare):
    assert "no recorded SHA-256" in compare(stage("/x/toy.csv"))
    assert compare(stage("goldschmidt"), origin="goldschmidt") is None


def test_other_splits_of_the_crystals_raise_unless_all_are_used(toy, compare):
    by_composition = toy.split_by_composition().fingerprint()
    for origin in ("/x/toy.csv", "/moved/toy.csv"):
        trained = stage(origin, by_composition, "composition")
        assert compare(trained, split_by="composition") is None
        assert compare(trained, any_splits=True) is None
        with pytest.raises(CollectionMismatchError, match="--split-by composition"):
            compare(trained)


MP20 = "e523bf8b9589cc85183193d60489ecb2eae24c2106d4ccc265b413c8dd6e8756"


@pytest.mark.parametrize("name", pretrained_policies())
def test_pretrained_policies_record_the_published_crystals(name):
    (recorded,) = training_stages(load_policy(name).config)
    if recorded.origin == "mp-20":
        fingerprint = MP20  # that of all 45,229 crystals, which no test prepares
    elif recorded.origin == "goldschmidt":
        fingerprint = load_collection("goldschmidt").fingerprint()
    else:
        results = ROOT / "docs" / "data" / f"benchmark-{recorded.origin}" / "benchmark.json"
        fingerprint = json.loads(results.read_text("utf-8"))[0]["collection_sha256"]
    assert recorded.fingerprints == (fingerprint,)


def test_split_file_of_another_collection_has_a_note_and_a_missing_one_raises(toy):
    file = "/x/fold.csv"

    def load(split_by):
        if split_by == file:
            raise MissingDataError("no file")
        return toy

    def compare(origin, sha256):
        config = PolicyConfig("gcn", toy.vocabulary.symbols, toy.max_sites, {}, origin | sha256)
        return compare_crystals(
            config, "runs/a", toy, origin="/x/toy.csv", split_by="/moved/fold.csv", load=load
        )

    other, same = ({"collection": c, "split_by": file} for c in ("/x/other.csv", "/x/toy.csv"))
    trained, unknown = ({"collection_sha256": sha} for sha in (toy.fingerprint(), "ab" * 32))
    assert compare(same, trained) is None
    assert compare(other, unknown).startswith("runs/a was trained on /x/other.csv (")
    with pytest.raises(MissingDataError):
        compare(same, unknown)
