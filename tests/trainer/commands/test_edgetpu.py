"""`earmark-trainer edgetpu` on the demo's models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import EarmarkError, UsageError
from trainer.cli import main

DEMO = Path(__file__).parents[3] / "models" / "demo" / "bundle"
DETECTOR = DEMO / "detector.tflite"


def run(*arguments: object) -> int:
    return main(["edgetpu", *map(str, arguments)])


@pytest.mark.usefixtures("no_compiler")
def test_every_operator_has_a_line_and_every_reason_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert run(DETECTOR, "--json", tmp_path / "new" / "r.json") == 0
    printed = capsys.readouterr()
    table, summary = printed.out.split("30 of 33 operators would run on the Edge TPU\n")
    lines = [line.split() for line in table.splitlines()]
    rows = [line for line in lines if line and line[0].isdigit()]
    assert [int(row[0]) for row in rows] == list(range(33))
    assert rows[0][1:4] == ["QUANTIZE", "int8", "1×192×320×3"]
    assert rows[32][1] == "TFLite_Detection_PostProcess"
    assert rows[32][-2] == "CPU"
    assert "2 × DEQUANTIZE, on the CPU: works on float32" in summary
    assert "of the chip's 8.00 MiB" in summary
    assert "edgetpu_compiler is not on PATH" in printed.err

    report = json.loads((tmp_path / "new" / "r.json").read_bytes())
    assert (report["mapped"], report["total"], report["compiled"]) == (30, 33, False)
    assert len(report["operators"]) == 33
    assert report["operators"][32] == {
        "name": "TFLite_Detection_PostProcess", "version": 1, "shape": [1, 50, 4],
        "dtype": "float32", "mapped": False, "why": "a custom operator, always on the CPU",
        "caution": "",
    }  # fmt: skip


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no\.tflite: no such file"):
        run(tmp_path / "no.tflite")
    with pytest.raises(UsageError, match="not a TFLite model"):
        run(DEMO / "means.npz")
    with pytest.raises(UsageError, match="--compile and --out DIR go together"):
        run(DETECTOR, "--compile")
    with pytest.raises(UsageError, match="--compile and --out DIR go together"):
        run(DETECTOR, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_the_report_is_still_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(DETECTOR, "--compile", "--out", tmp_path / "out") == 0
    printed = capsys.readouterr()
    assert "30 of 33" in printed.out
    assert printed.err.count("edgetpu_compiler is not on PATH") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_model_is_compiled_into_a_folder_and_never_over_another(
    tmp_path: Path,
    compiled_twin: Callable[[bytes], bytes],
    fake_compiler: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "made").write_bytes(compiled_twin(DETECTOR.read_bytes()))
    fake_compiler(
        f"cp '{tmp_path / 'made'}' \"$out/${{name}}_edgetpu.tflite\"\n"
        "echo 'Number of operations that will run on Edge TPU: 29'\n"
        "echo 'Number of operations that will run on CPU: 4'"
    )
    out = tmp_path / "out"
    assert run(DETECTOR, "--compile", "--out", out, "--json", tmp_path / "r.json") == 0
    assert {path.name for path in out.iterdir()} == {
        "detector_edgetpu.tflite",
        "detector_edgetpu.log",
    }
    assert "29 operators on the Edge TPU, 4 on the CPU" in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_bytes())["compiled"] is True
    with pytest.raises(UsageError, match=r"detector_edgetpu\.tflite: exists"):
        run(DETECTOR, "--compile", "--out", out)


@pytest.mark.slow
def test_a_failure_keeps_its_log(tmp_path: Path, fake_compiler: Callable[[str], Path]) -> None:
    fake_compiler("echo 'Internal compiler error. Aborting!'; exit 1")
    with pytest.raises(EarmarkError, match="Internal compiler error") as caught:
        run(DETECTOR, "--compile", "--out", tmp_path / "out")
    assert caught.value.exit_code == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["detector_edgetpu.log"]
