"""Recipes: YAML files that say how a bundle is made. Strict: an unknown key is refused by name."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml

from edge.errors import UsageError
from trainer.data.splits import SplitBy
from trainer.detection.options import DetectorOptions
from trainer.detection.options import check_options as check_detector_options
from trainer.embedding.options import EmbedderOptions, check_options
from trainer.means.prototypes import MeansOptions, check_means_options

Positive = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every recipe section: immutable, unknown keys refused."""


class CropsSource(_Strict):
    """Crops folders, relative to `--data`.

    train: also gives the class means and, by whole sessions, `held_out` of it the validation.
    test: other sessions of the same animals. unknown: animals that are not in `train`.
    newcomer_gallery, newcomer_query: animals to enrol without training, and their other sessions;
    without `unknown`, the queries serve as unknown animals before they are enrolled. negatives: a
    folder of crops of no animal (half bodies, blur, other animals), to calibrate with. split: by
    what is held out: "session", "date" (in the sessions' names) or "frame". The last flatters every
    figure and is refused unless force_frame_split is set; the report then warns.
    """

    train: str = "train"
    test: str | None = None
    unknown: str | None = None
    newcomer_gallery: str | None = None
    newcomer_query: str | None = None
    negatives: str | None = None
    held_out: Share = 0.2
    split: SplitBy = "session"
    force_frame_split: bool = False


class FramesSource(_Strict):
    """Annotated frames in any format that `read_frames` knows, relative to `--data`.

    train, test: a COCO file, a folder of Pascal VOC files, a YOLO `data.yaml` (`data.yaml#val` for
    a part of it) or a CVAT file. images: the folder of both's images, None for each format's own
    place. test_every: instead of `test`, every Nth file of `train` by name, so 5 means the fifth,
    the tenth, …; refused where it puts a session on both sides, unless force_frame_split is set.
    held_out: of `train`, by whole sessions, to choose the best step on; refused where frames' names
    give none, unless force_frame_split is set.
    """

    train: str = "annotations.json"
    test: str | None = None
    images: str | None = None
    test_every: Annotated[int, msgspec.Meta(ge=2)] | None = None
    force_frame_split: bool = False
    held_out: Share = 0.2

    def __post_init__(self) -> None:
        if self.test is not None and self.test_every is not None:
            raise ValueError("`test` and `test_every` exclude each other; leave one out")


class HerdSource(_Strict):
    """A simulated herd instead of `--data`.

    animals: in the pen that the bundle will know. other_pens: further pens of as many animals, for
    training only. unknown_animals: in a pen for the open-set test and the newcomers.
    sessions: stretches of time of each light and camera for training; one more is the test.
    frames: of each session and camera, at `fps` a second. cameras: whose views are trained on; 1
    and 2 are the demo's, others are drawn from their number. test_cameras: of the test, None for
    the same. held_out: of crops, and of frames without held_out_cameras, by whole sessions.
    held_out_cameras: of `cameras`; all their frames choose the detector's step and threshold, as
    fits a detector that is meant for cameras it never saw.
    """

    animals: Positive = 16
    other_pens: Annotated[int, msgspec.Meta(ge=0)] = 2
    unknown_animals: Annotated[int, msgspec.Meta(ge=2)] = 8
    sessions: Annotated[int, msgspec.Meta(ge=2)] = 2
    frames: Positive = 40
    fps: Annotated[float, msgspec.Meta(gt=0)] = 0.5
    cameras: Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1)] = (1, 2)
    test_cameras: Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1)] | None = None
    held_out: Share = 0.2
    held_out_cameras: tuple[Positive, ...] = ()

    def __post_init__(self) -> None:
        held = set(self.held_out_cameras)
        if not held < set(self.cameras):
            raise ValueError("held_out_cameras must be some of cameras, not all")


class Clip(_Strict):
    """A video of the simulated herd with its truth, for demonstrations: no training frame in it."""

    frames: Positive = 360
    fps: Annotated[float, msgspec.Meta(gt=0)] = 12.0
    light: typing.Literal["day", "dusk", "night"] = "day"
    camera: Annotated[int, msgspec.Meta(ge=1, le=2)] = 1
    name: str = "pen"


class Data(_Strict):
    """Where images come from: a simulated herd, or folders under `--data`."""

    crops: CropsSource | None = None
    frames: FramesSource | None = None
    herd: HerdSource | None = None


class Recipe(_Strict):
    """The whole file. With `embedder: null`, or frames alone, it makes a detector and no bundle.

    weights: of the backbones, "imagenet" to download; `--weights` overrides it.
    detector_weights: of the detector's, where it is another backbone than the embedder's;
    `--detector-weights` overrides it. seq: the bundle's.
    """

    name: str
    data: Data
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    seq: Annotated[int, msgspec.Meta(ge=0)] = 1
    weights: str | None = None
    detector_weights: str | None = None
    embedder: dict[str, Any] | None = msgspec.field(default_factory=dict)
    detector: dict[str, Any] | None = None
    means: dict[str, Any] = msgspec.field(default_factory=dict)
    clip: Clip | None = None

    def embedder_options(self, weights: Path | None) -> EmbedderOptions:
        """Return the embedder's options; weights: a local file that overrides the recipe's."""
        if self.embedder is None:
            raise UsageError(f"recipe {self.name!r} trains no embedder")
        extra = {"weights": weights or self.weights, "seed": self.seed}
        options: EmbedderOptions = _options(EmbedderOptions, self.embedder, "embedder", extra)
        check_options(options)
        return options

    def detector_options(
        self, weights: Path | None, detector_weights: Path | None = None
    ) -> DetectorOptions | None:
        """Return the detector's options, or None in a recipe without a detector.

        weights: a local file that overrides the recipe's `weights`; detector_weights: one that
        overrides both that and its `detector_weights`.
        """
        if self.detector is None:
            return None
        chosen = detector_weights or self.detector_weights or weights or self.weights
        extra = {"weights": chosen, "seed": self.seed}
        options: DetectorOptions = _options(DetectorOptions, self.detector, "detector", extra)
        check_detector_options(options)
        return options

    def means_options(self) -> MeansOptions:
        """Return how class means are made."""
        options: MeansOptions = _options(MeansOptions, self.means, "means", {"seed": self.seed})
        check_means_options(options)
        return options


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe; UsageError names the file and the key that is wrong.

    changes: `key=value` each, such as `embedder.steps=20`, in place of what the file says; the
    value is YAML.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        for change in changes:
            _change(raw, change)
        recipe = msgspec.convert(raw, type=Recipe)
        _check_parts(recipe)
        # Unknown keys and wrong types of the options are told before anything is read.
        if recipe.embedder is not None:
            recipe.embedder_options(None)
        recipe.detector_options(None)
        recipe.means_options()
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such recipe") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {error}") from error
    except (msgspec.ValidationError, UsageError) as error:
        raise UsageError(f"{path}: {error}") from error
    return recipe


def _check_parts(recipe: Recipe) -> None:
    """Raise UsageError for sections that do not go together."""
    data, detector = recipe.data, recipe.detector
    identities = bool(data.herd or data.crops)
    if not (identities or data.frames):
        raise UsageError("`data` needs `herd`, or `crops`, or `frames` for a detector")
    if data.herd is not None and (data.crops or data.frames):
        raise UsageError("`data` takes either `herd` or `crops` and `frames`")
    if recipe.embedder and not identities:
        raise UsageError("`embedder` needs `data.crops` to train on")
    if recipe.embedder is None and (detector is None or recipe.clip or data.crops):
        raise UsageError("`embedder: null` needs a `detector`, and neither `clip` nor crops")
    if detector is None and not identities:
        raise UsageError("`data.frames` needs a `detector` to train")
    if detector is not None and not (data.herd or data.frames):
        raise UsageError("`detector` needs `data.frames` to train on")
    if recipe.clip is not None and data.herd is None:
        raise UsageError("`clip` needs a simulated herd (`data.herd`)")
    if recipe.clip is not None and detector is None:
        raise UsageError("`clip` needs a `detector` to follow the animals in it")


def _change(raw: Any, change: str) -> None:
    """Set one value of a recipe's nested mappings."""
    name, equals, text = change.partition("=")
    *parents, last = name.split(".")
    if not equals or not all([*parents, last]):
        raise UsageError(f"--set {change}: write key=value, such as embedder.steps=20")
    place = raw
    for parent in parents:
        place = place.setdefault(parent, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise UsageError(f"--set {change}: there is no section {'.'.join(parents)!r} to set it in")
    place[last] = yaml.safe_load(text)


def _options(kind: type[Any], given: dict[str, Any], where: str, extra: dict[str, Any]) -> Any:
    """Return the options dataclass `kind` made from a recipe's section."""
    try:
        twin = _strict_twin(kind, frozenset(extra))
        values = msgspec.convert(given, type=twin, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise UsageError(f"in `{where}`: {error}") from error
    return _rebuild(kind, values, extra)


def _path(kind: type[Any], value: Any) -> Any:
    """Make a path of text; msgspec knows none."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"Expected the path of a file, got {value!r}")


def _strict_twin(kind: type[Any], leave_out: frozenset[str] = frozenset()) -> type[msgspec.Struct]:
    """Return a Struct with the fields of an options dataclass that refuses unknown keys."""
    hints = typing.get_type_hints(kind)
    fields: list[Any] = []
    for field in dataclasses.fields(kind):
        if field.name in leave_out:
            continue
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            hint = _strict_twin(typing.cast("type[Any]", hint))
        # UNSET keeps the dataclass's own default the only one.
        fields.append((field.name, hint | msgspec.UnsetType, msgspec.UNSET))
    return msgspec.defstruct(kind.__name__, fields, forbid_unknown_fields=True, kw_only=True)


def _rebuild(kind: type[Any], values: msgspec.Struct, extra: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    given: dict[str, Any] = dict(extra)
    for name in values.__struct_fields__:
        value = getattr(values, name)
        if value is msgspec.UNSET:
            continue
        given[name] = (
            _rebuild(hints[name], value, {}) if isinstance(value, msgspec.Struct) else value
        )
    return kind(**given)
