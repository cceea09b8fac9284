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
        ("name: r\ndata: {crops: {}}\nembedder: {losses: {hard: 1}}\n", "no loss 'hard'"),
        ("name: r\ndata: {crops: {}}\nembedder: {losses: {softmax: -1}}\n", "weight -1"),
        ("name: r\ndata: {crops: {}}\nembedder: {losses: {}}\n", "at least one loss"),
        ("name: r\ndata: {crops: {}}\nembedder: {backbone: vgg}\n", "no backbone 'vgg'"),
        ("name: r\ndata: {crops: {}}\nembedder: {head: tail}\n", "head"),
        ("name: r\ndata: {crops: {}}\nembedder: {classes_per_batch: some}\n", "classes_per_batch"),
        ("name: r\ndata: {crops: {split: random}}\n", "split"),
        ("name: r\ndata: {}\n", "data"),
        ("name: r\ndata: {herd: {}, crops: {}}\n", "either"),
        ("name: r\ndata: {crops: {}}\ndetector: {}\n", "data.frames"),
        (
            "name: r\ndata: {crops: {}, frames: {test: a, test_every: 5}}\n",
            "`test` and `test_every` exclude each other",
        ),
        ("name: r\ndata: {crops: {}, frames: {test_every: 1}}\n", "test_every"),
        ("name: r\ndata: {frames: {}}\n", "needs a `detector`"),
        ("name: r\ndata: {frames: {}}\ndetector: {}\nembedder: {steps: 3}\n", "data.crops"),
        ("name: r\ndata: {herd: {}}\nembedder: null\n", "`embedder: null` needs a `detector`"),
        ("name: r\ndata: {crops: {}, frames: {}}\nembedder:\ndetector: {}\n", "nor crops"),
        ("name: r\ndata: {herd: {}}\ndetector: {backbone: vgg}\n", "no detector backbone"),
        ("name: r\ndata: {herd: {}}\ndetector: {start: 5}\n", "the path of a file, got 5"),
        ("name: r\ndata: {herd: {}}\ndetector: {augmentation: {scale: 0}}\n", "scale"),
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


def test_values_are_set_from_the_command_line(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", "name: r\ndata: {crops: {}}\nembedder: {steps: 9}\n")
    changes = ["embedder.steps=20", "seed=4", "means.accept=0.9", "embedder.losses={softmax: 2}"]
    recipe = load_recipe(path, changes)
    assert recipe.seed == 4
    assert recipe.embedder_options(None).steps == 20
    assert recipe.embedder_options(None).losses == {"softmax": 2}
    assert recipe.means_options().accept == 0.9


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("steps", "write key=value"),
        (".=1", "write key=value"),
        ("embedder.step=2", "step"),
        ("name.first=2", "no section 'name'"),
        ("embedder.steps=[", "YAML"),
    ],
)
def test_a_change_that_cannot_be_is_one_line(tmp_path: Path, change: str, named: str) -> None:
    path = write(tmp_path / "r.yaml", "name: r\ndata: {crops: {}}\n")
    with pytest.raises(UsageError, match=named):
        load_recipe(path, [change])


def test_a_detectors_weights_come_from_where_it_says(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine.h5", tmp_path / "theirs.h5"
    text = "name: r\ndata: {herd: {}}\nweights: imagenet\ndetector: {start: first.npz}\n"
    one = load_recipe(write(tmp_path / "r.yaml", text))
    assert [one.detector_options(*given).weights for given in ((None,), (mine,))] == [
        "imagenet", mine,
    ]  # fmt: skip
    assert one.detector_options(None).start == Path("first.npz")
    other = load_recipe(write(tmp_path / "r.yaml", text + "detector_weights: a.h5\n"))
    assert other.detector_options(mine).weights == "a.h5"
    assert other.detector_options(mine, theirs).weights == theirs
    assert other.embedder_options(mine).weights == mine
