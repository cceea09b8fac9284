"""Google's compiler is doubled by small scripts on PATH; what they print is what it prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import UsageError
from trainer.export.edgetpu_compile import (
    CompilerError,
    compile_for_edgetpu,
    compiled_name,
    count_operations,
    find_compiler,
    log_name,
)

DEMO = Path(__file__).parents[3] / "models" / "demo" / "bundle"
# After the example at https://coral.ai/docs/edgetpu/compiler/: all operators are mapped.
ALL_MAPPED = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 457 ms.

Input model: model.tflite
Input size: 4.08MiB
Output model: model_edgetpu.tflite
Output size: 4.38MiB
On-chip memory used for caching model parameters: 4.21MiB
On-chip memory remaining for caching model parameters: 2.70MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 31
Operation log: model_edgetpu.log
See the operation log file for individual operation details.
Compilation succeeded!
"""
SOME_MAPPED = ALL_MAPPED.replace(
    "See the operation",
    "Number of operations that will run on Edge TPU: 30\n"
    "Number of operations that will run on CPU: 3\nSee the operation",
)

Fake = Callable[[str], Path]
Twin = Callable[[bytes], bytes]


@pytest.fixture
def compiled(tmp_path: Path, compiled_twin: Twin) -> Path:
    """What a compiler would make of the demo's detector."""
    path = tmp_path / "made"
    path.write_bytes(compiled_twin((DEMO / "detector.tflite").read_bytes()))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "in" / "a folder"
    folder.mkdir(parents=True)
    path = folder / "my detector.tflite"
    path.write_bytes((DEMO / "detector.tflite").read_bytes())
    return path


def say(text: str, tmp_path: Path) -> str:
    """Return the line of a script that prints a text."""
    (tmp_path / "said").write_text(text)
    return f"cat '{tmp_path / 'said'}'"


def compile_it(model: Path, tmp_path: Path, **more: float) -> Path:
    compiler = find_compiler()
    assert compiler is not None
    out = tmp_path / "out" / "x_edgetpu.tflite"
    compile_for_edgetpu(model, out, compiler=compiler, **more)
    return out


def test_names() -> None:
    assert compiled_name("a.b.tflite") == "a.b_edgetpu.tflite"
    assert log_name("a.b_edgetpu.tflite") == "a.b_edgetpu.log"


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_none_is_found() -> None:
    assert find_compiler() is None


@pytest.mark.parametrize(
    ("log", "counts"),
    [
        (ALL_MAPPED, (31, 0)),
        (SOME_MAPPED, (30, 3)),
        ("Internal compiler error. Aborting!", (None, None)),
        ("", (None, None)),
    ],
)
def test_counts_are_read_off_the_log(log: str, counts: tuple[int | None, int | None]) -> None:
    assert count_operations(log) == counts


@pytest.mark.slow
def test_a_model_is_compiled_and_the_log_kept(
    model: Path, compiled: Path, fake_compiler: Fake, tmp_path: Path
) -> None:
    script = fake_compiler(
        f"cp '{compiled}' \"$out/${{name}}_edgetpu.tflite\"\n"
        'echo "CUSTOM 1 Operation is working on an unsupported data type" '
        '> "$out/${name}_edgetpu.log"\n' + say(SOME_MAPPED, tmp_path)
    )
    before = model.read_bytes()
    assert find_compiler() == script
    out = tmp_path / "new" / "detector_edgetpu.tflite"
    done = compile_for_edgetpu(model, out, compiler=script)
    assert done.path == out
    assert out.read_bytes() == compiled.read_bytes()
    assert (done.on_tpu, done.on_cpu) == (30, 3)
    # Both what it printed and what it wrote.
    assert "Model compiled successfully" in done.log
    assert "Operation is working on an unsupported data type" in done.log
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert [path.name for path in model.parent.iterdir()] == [model.name]
    assert model.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (
            "echo 'Edge TPU Compiler version 16.0'\necho 'Internal compiler error. Aborting!'\n"
            "echo\nexit 1",
            r"failed with exit code 1: Internal compiler error\. Aborting!",
        ),
        (
            "echo 'Invalid model: model.tflite'\necho 'Model not quantized' >&2\nexit 1",
            "exit code 1: Model not quantized",
        ),
        (
            "echo 'Compilation failed due to large activation tensors in model.'\n"
            "echo 'Compilation failed! '\nexit 1",
            "large activation tensors",
        ),
        ("exit 3", "exit code 3: it said nothing"),
        ("kill -SEGV $$", "exit code -11"),
        ("echo done", "made no file: done"),
        ('echo garbage > "$out/${name}_edgetpu.tflite"', "not a TFLite model"),
        ('cp "$model" "$out/${name}_edgetpu.tflite"', "nothing was compiled"),
    ],
)
def test_a_failure_is_one_line_and_leaves_nothing(
    model: Path, fake_compiler: Fake, tmp_path: Path, body: str, complaint: str
) -> None:
    fake_compiler(body)
    with pytest.raises(CompilerError, match=complaint) as caught:
        compile_it(model, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_log_of_a_failure_is_kept(model: Path, fake_compiler: Fake, tmp_path: Path) -> None:
    fake_compiler("echo 'ERROR: Registration failed.'\necho more\nexit 1")
    with pytest.raises(CompilerError, match="Registration failed") as caught:
        compile_it(model, tmp_path)
    assert caught.value.log == "ERROR: Registration failed.\nmore\n"


def gone(pid: int) -> bool:
    """Say whether a process has ended, waited for by its parent or not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


@pytest.mark.slow
@pytest.mark.parametrize("ignore", ["", "trap '' TERM INT\n"])
def test_a_compiler_that_hangs_is_killed_with_its_children(
    model: Path, fake_compiler: Fake, tmp_path: Path, wait_until: Callable[..., None], ignore: str
) -> None:
    fake_compiler(
        f"{ignore}sleep 600 & echo $! > '{tmp_path}/child'; echo $$ > '{tmp_path}/self'\n"
        "echo 'Started a compilation timeout timer of 180 seconds.'\nwait; wait"
    )
    with pytest.raises(CompilerError, match=r"was not done after 3 s") as caught:
        compile_it(model, tmp_path, limit_s=3)
    assert "Started a compilation" in caught.value.log
    assert not (tmp_path / "out").exists()
    for name in ("self", "child"):
        pid = int((tmp_path / name).read_text())
        wait_until(lambda pid=pid: gone(pid))


@pytest.mark.slow
def test_a_child_left_behind_keeps_nobody_waiting(
    model: Path,
    compiled: Path,
    fake_compiler: Fake,
    tmp_path: Path,
    wait_until: Callable[..., None],
) -> None:
    fake_compiler(
        f"sleep 600 & echo $! > '{tmp_path}/child'\n"
        f"cp '{compiled}' \"$out/${{name}}_edgetpu.tflite\""
    )
    assert compile_it(model, tmp_path).is_file()
    pid = int((tmp_path / "child").read_text())
    wait_until(lambda: gone(pid))


@pytest.mark.slow
def test_what_cannot_be_run_is_named(model: Path, fake_compiler: Fake, tmp_path: Path) -> None:
    script = fake_compiler("exit 0")
    script.write_bytes(b"\x7fELF of another machine")
    with pytest.raises(CompilerError, match="edgetpu_compiler: cannot be run"):
        compile_it(model, tmp_path)


@pytest.mark.slow
def test_an_older_compiled_file_stays_when_the_next_fails(
    model: Path, fake_compiler: Fake, tmp_path: Path
) -> None:
    script = fake_compiler("exit 1")
    out = tmp_path / "x_edgetpu.tflite"
    out.write_bytes(b"older")
    with pytest.raises(CompilerError):
        compile_for_edgetpu(model, out, compiler=script)
    assert out.read_bytes() == b"older"


def test_a_compiler_error_is_no_usage_error() -> None:
    # The user has asked for nothing wrong.
    assert not issubclass(CompilerError, UsageError)
    assert CompilerError("m", "log").exit_code == 1
