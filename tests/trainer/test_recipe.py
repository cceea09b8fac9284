from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import UsageError
from trainer.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "models" / "recipes"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_valid(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem


def test_options_keep_the_dataclass_defaults_and_take_what_is_given(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(
            tmp_path / "r.yaml",
            "name: r\nseed: 5\ndata: {crops: {}}\n"
            "embedder: {steps: 7, augmentation: {rotation_deg: 10}}\n",
        )
    )
    options = recipe.embedder_options(None)
    assert (options.steps, options.seed, options.weights) == (7, 5, None)
    assert options.augmentation.rotation_deg == 10
    assert options.augmentation.zoom == type(options.augmentation)().zoom
    assert options.dimension == type(options)().dimension


def test_weights_on_the_command_line_win(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(tmp_path / "r.yaml", "name: r\nweights: imagenet\ndata: {crops: {}}\n")
    )
    assert recipe.embedder_options(None).weights == "imagenet"
    assert recipe.embedder_options(tmp_path / "w.h5").weights == tmp_path / "w.h5"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name: r\ndata: {crops: {}}\nembeder: {}\n", "embeder"),
        ("name: r\ndata: {crops: {}}\nembedder: {step: 3}\n", "step"),
        ("name: r\ndata: {crops: {}}\nembedder: {augmentation: {flip: true}}\n", "flip"),
        ("name: r\ndata: {crops: {}}\nembedder: {steps: many}\n", "steps"),
        ("name: r\ndata: {}\n", "data"),
        ("name: r\ndata: {herd: {}, crops: {}}\n", "either"),
        ("name: r\ndata: {crops: {}}\ndetector: {}\n", "data.frames"),
        ("name: r\ndata: {crops: {}}\nclip: {}\n", "clip"),
        ("name: [r\n", "YAML"),
        ("", "object"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = write(tmp_path / "r.yaml", text)
    with pytest.raises(UsageError) as caught:
        load_recipe(path)
    assert named in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.yaml: no such recipe"):
        load_recipe(tmp_path / "nowhere.yaml")
