"""Recipes by name and the recipes derived from them."""

import dataclasses
import json

import pytest

from crystal_agents.training.recipes import (
    RECIPES,
    Recipe,
    cloning_recipe,
    get_recipe,
    value_recipe,
)
from crystal_gym.errors import UnknownNameError


def test_paper_recipes_have_the_settings_of_the_paper():
    for name in ("egnn-paper", "gcn"):
        recipe = get_recipe(name)
        assert (recipe.epochs, recipe.skeletons * recipe.states) == (1000, 2048)
        assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == ("adam", 1e-3, 1e-5)
        assert (recipe.schedule, recipe.traversals) == ("constant", "expert")
        assert (recipe.average, recipe.clip) == (0, 0)


def test_an_unknown_recipe_is_rejected_with_the_closest_name():
    with pytest.raises(UnknownNameError, match="egnn-paper"):
        get_recipe("egnn_paper")


@pytest.mark.parametrize("name", RECIPES)
def test_value_recipes_keep_the_network_without_dropout_and_averaging(name):
    recipe = value_recipe(RECIPES[name])
    assert recipe.network == RECIPES[name].network
    assert recipe.settings.get("dropout", 0.0) == 0
    assert recipe.epochs >= 10
    assert (recipe.traversals, recipe.average, recipe.synthetic) == ("expert", 0, None)


@pytest.mark.parametrize("name", RECIPES)
def test_cloning_recipes_train_on_the_focus_of_transitions(name):
    recipe = cloning_recipe(RECIPES[name])
    assert (recipe.traversals, recipe.synthetic) == ("expert", None)
    assert recipe.settings == RECIPES[name].settings


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_read_from_training_records(name):
    record = json.loads(json.dumps(dataclasses.asdict(RECIPES[name])))
    assert Recipe.from_record(record) == RECIPES[name]
    assert Recipe.from_record({**record, "synthetic": False}).synthetic is None
    with pytest.raises(TypeError):
        Recipe.from_record({**record, "other": 1})
