"""`earmark-edge` in this process, with models that see colours: answers, and complaints."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import edge.release.bundle
import edge.served
from edge.cli import PROG, main
from edge.console import run_command
from edge.release.bundle import Bundle


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The only line on stderr."""
        assert self.err.startswith(f"{PROG}: error: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err


@pytest.fixture
def edge_cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], herd_bundle: Bundle
) -> Callable[..., Done]:
    """Call with arguments; the bundle is the one whose models see colours."""
    monkeypatch.setattr(edge.release.bundle, "load_bundle", lambda path, threads=2: herd_bundle)
    served = SimpleNamespace(bundle=herd_bundle, inference=None)
    monkeypatch.setattr(edge.served, "serve_bundle", lambda path, **options: served)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", [PROG, *map(str, arguments)])
        capsys.readouterr()
        try:
            code = run_command(main, PROG)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


Cli = Callable[..., Done]


def crop(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((40, 60, 3), colour[::-1], np.uint8))
    return path


RED, GREEN, BLUE = (220, 20, 20), (20, 200, 20), (20, 20, 220)


# -- identify -----------------------------------------------------------------------------------


def test_identify_prints_animal_distance_and_margin(edge_cli: Cli, tmp_path: Path) -> None:
    red, blue = crop(tmp_path / "red.png", RED), crop(tmp_path / "blue.png", BLUE)
    done = edge_cli("identify", red, blue, "--bundle", "herd")
    assert done.code == 0
    lines = {
        name: next(line for line in done.out.splitlines() if name in line)
        for name in ("red.png", "blue.png")
    }
    assert "pig01" in lines["red.png"]
    assert "0.000" in lines["red.png"]
    assert "unknown" in lines["blue.png"]
    assert "pig" not in lines["blue.png"].split("blue.png")[1]


def test_identify_walks_folders_and_speaks_json(edge_cli: Cli, tmp_path: Path) -> None:
    crop(tmp_path / "crops" / "x" / "b.png", GREEN)
    crop(tmp_path / "crops" / "a.png", RED)
    done = edge_cli("identify", tmp_path / "crops", "--bundle", "herd", "--json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["animal"] for row in rows] == ["pig01", "pig02"]
    assert [Path(row["image"]).name for row in rows] == ["a.png", "b.png"]
    assert rows[0]["distance"] == pytest.approx(0, abs=1e-3)
    assert rows[0]["margin"] > 0.5
    assert rows[0]["reason"] is None


def test_identify_names_an_unreadable_image_after_the_others(edge_cli: Cli, tmp_path: Path) -> None:
    good = crop(tmp_path / "good.png", RED)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not an image")
    done = edge_cli("identify", bad, good, "--bundle", "herd")
    assert done.code == 1
    assert "bad.png: not a readable image" in done.complaint
    assert "pig01" in done.out


@pytest.mark.parametrize(("name", "words"), [("nowhere.png", "no such image"), ("", "no images")])
def test_identify_of_nothing(edge_cli: Cli, tmp_path: Path, name: str, words: str) -> None:
    done = edge_cli("identify", tmp_path / name, "--bundle", "herd")
    assert done.code == 2
    assert words in done.complaint


def test_identify_names_a_folder_that_is_no_bundle(
    edge_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(
        sys,
        "argv",
        [PROG, "identify", str(crop(tmp_path / "a.png", RED)), "--bundle", str(tmp_path)],
    )
    assert run_command(main, PROG) == 1


# -- config, help and version --------------------------------------------------------------------


def test_config_prints_a_config_that_run_takes(edge_cli: Cli, tmp_path: Path) -> None:
    printed = edge_cli("config")
    assert printed.code == 0
    path = tmp_path / "agent.yaml"
    path.write_text(printed.out)
    # All is well up to the video that is not there.
    done = edge_cli("run", "--config", path, "--source", tmp_path / "nowhere.mp4")
    assert done.code == 2
    assert "nowhere.mp4" in done.complaint


def test_version_and_help(edge_cli: Cli) -> None:
    assert edge_cli("--version").out.startswith("earmark-edge 0.")
    helped = edge_cli("--help")
    assert helped.code == 0
    for command in ("run", "identify", "config", "demo"):
        assert command in helped.out
    assert edge_cli().code == 2


# -- run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run",), 2, "--bundle"),
        (("run", "--config", "nowhere.yaml"), 2, "nowhere.yaml: no such config"),
        (("run", "--bundle", "b", "--source", "no.mp4", "--broker", "http://x"), 2, "no.mp4"),
        (
            ("run", "--bundle", "b", "--source", "no.mp4", "--broker", "mqtt://x", "--device", "A"),
            2,
            "device",
        ),
        (
            ("run", "--bundle", "b", "--source", "no.mp4", "--broker", "mqtt://x", "--fps", "0"),
            2,
            "fps",
        ),
        (("demo", "--assets", "nowhere"), 2, "truth.json"),
        (("demo", "--username", "u"), 2, "--broker"),
    ],
)
def test_one_line_for_what_a_user_can_do_wrong(
    edge_cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EARMARK_BROKER", raising=False)
    done = edge_cli(*arguments)
    assert done.code == code
    assert words in done.complaint


def test_options_belong_to_their_source(edge_cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("bundle: b\ncameras: [{name: pen-1, source: x.mp4}]\n")
    done = edge_cli("run", "--config", path, "--realtime")
    assert done.code == 2
    assert "--source" in done.complaint


def test_a_broker_url_with_a_path_is_refused(
    edge_cli: Cli, make_herd: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_herd(frames=3) / "pen.mp4"
    done = edge_cli(
        *("run", "--bundle", "b", "--source", clip, "--broker", "http://broker"),
        *("--state", tmp_path / "state"),
    )
    assert done.code == 2
    assert "mqtt://" in done.complaint
