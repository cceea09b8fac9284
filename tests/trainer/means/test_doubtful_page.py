from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from trainer.data.crops import CropSet
from trainer.means.doubtful import AnimalSummary, Doubt, Inspection
from trainer.means.doubtful_page import NAMES, Findings, as_record, write_findings


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    """Three doubtful images of four, in folders with names that mean something to a shell."""
    paths = []
    for animal, name in (
        ("ann", "a_0.jpg"),
        ("ann", "b '$(touch oops)'_1.jpg"),
        ("bob\n<i>", "a_0.jpg"),
        ("bob\n<i>", "a_1.jpg"),
    ):
        path = tmp_path / "my crops" / animal / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.full((20, 30, 3), 40 * len(paths), np.uint8)
        path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
        paths.append(path)
    crops = CropSet(
        tuple(paths),
        ("ann", "bob\n<i>"),
        np.array([0, 0, 1, 1], np.int32),
        ("a", "b '$(touch oops)'", "a", "a"),
    )
    doubts = (
        Doubt(1, "ann", "duplicate", 0.9, 0.3, "bob\n<i>", 0.1, "other_sessions", paths[2]),
        Doubt(0, "ann", "nearer", 0.5, 0.3, "bob\n<i>", 0.25, "other_images"),
        Doubt(3, "bob\n<i>", "far", 0.4, 0.3, None, None, "means"),
    )
    animals = (
        AnimalSummary("ann", 2, 2, 0.7, 0.3, "bob\n<i>", 0.45, 0.02, 2),
        AnimalSummary("bob\n<i>", 2, 1, 0.2, 0.3, "ann", 0.45, None, 1),
    )
    alike = (("ann", "bob\n<i>", 0.45),)
    inspection = Inspection(doubts, animals, {"ann": 0, "bob\n<i>": 2}, alike)
    return Findings(crops, inspection, "ab" * 32, 100)


def test_the_four_files_are_there_and_the_list_is_complete(
    findings: Findings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write_findings(findings, out)
    assert {path.name for path in out.iterdir()} == NAMES
    record = json.loads((out / "doubtful.json").read_bytes())
    assert record == as_record(findings)
    assert record["by_reason"] == {"duplicate": 1, "nearer": 1, "far": 1}
    assert record["images"][1] == {
        "path": str(findings.crops.paths[0]),
        "animal": "ann",
        "session": "a",
        "reason": "nearer",
        "distance": 0.5,
        "threshold": 0.3,
        "other": "bob\n<i>",
        "other_distance": 0.25,
        "judged_by": "other_images",
        "twin": None,
    }
    assert record["animals"][0]["nearest_distance"] == 0.45
    assert record["most_alike"] == [{"animals": ["ann", "bob\n<i>"], "distance": 0.45}]


def test_the_page_needs_nothing_and_escapes_names(findings: Findings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write_findings(findings, out)
    page = (out / "index.html").read_text()
    assert "<i>" not in re.sub(r"<i></i>|<i class=\"e\d\"></i>", "", page)
    assert not re.findall(r'(?:src|href)="(?!data:image/jpeg;base64,)', page)
    assert page.count('<div class="card"') == 3
    assert re.findall(r'data-reason="(\w+)" data-animal', page) == ["duplicate", "nearer", "far"]
    # One small picture an animal, however many cards show it.
    assert len(re.findall(r"\.two \.e\d\{", page)) == 2


def test_the_sheet_frames_each_image_by_its_reason(findings: Findings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write_findings(findings, out)
    sheet = cv2.imread(str(out / "doubtful.jpg"))[..., ::-1]
    assert sheet.shape == (120 + 2 * 15, 3 * 120, 3)
    for column, colour in enumerate([(190, 40, 190), (214, 48, 38), (235, 150, 20)]):
        np.testing.assert_allclose(sheet[60, 120 * column + 2], colour, atol=45)


def test_only_the_worst_are_listed(findings: Findings) -> None:
    few = Findings(findings.crops, findings.inspection, findings.bundle_id, 1)
    record = as_record(few)
    assert (record["doubtful"], record["listed"], len(record["images"])) == (3, 1, 1)


def test_without_doubts_there_is_no_sheet(findings: Findings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    calm = Inspection((), findings.inspection.animals, {}, ())
    write_findings(Findings(findings.crops, calm, "", 100), out)
    assert {path.name for path in out.iterdir()} == NAMES - {"doubtful.jpg"}
    assert "0 doubtful of 4 crops" in (out / "index.html").read_text()


def test_the_script_moves_exactly_the_listed_files_out_of_the_crops(
    findings: Findings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write_findings(findings, out)
    assert all(path.exists() for path in findings.crops.paths)
    script = (out / "doubtful.sh").read_text()
    moves = [line for line in script.splitlines() if " mv -n " in line]
    assert len(moves) == 3
    # Somebody else's file of that name is not overwritten.
    aside = tmp_path / "set-aside" / "my crops"
    (aside / "ann").mkdir(parents=True)
    (aside / "ann" / "a_0.jpg").write_text("another")
    subprocess.run(["sh", str(out / "doubtful.sh")], cwd=tmp_path, check=True)
    moved = sorted(str(path.relative_to(aside)) for path in aside.rglob("*.jpg"))
    assert moved == ["ann/a_0.jpg", "ann/b '$(touch oops)'_1.jpg", "bob\n<i>/a_1.jpg"]
    assert (aside / "ann" / "a_0.jpg").read_text() == "another"
    assert [path.exists() for path in findings.crops.paths] == [True, False, True, False]
    assert not list(tmp_path.rglob("oops*"))
