"""Training over several replicas: two local processes, and two devices of one process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.errors import UsageError
from trainer.strategy import make_strategy, resolve_precision

WORKER = """
import hashlib, json, sys
from pathlib import Path
import tensorflow as tf
if sys.argv[1] == "mirrored":
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
else:
    from trainer.strategy import make_strategy
    strategy = make_strategy(sys.argv[1])
from trainer.data.crops import read_crops
from trainer.data.splits import split_by_session
from trainer.embedding.options import EmbedderOptions
from trainer.embedding.train import train_embedder
from trainer.progress import silent

train, validation = split_by_session(read_crops(Path(sys.argv[2])), 0.3, 0)
options = EmbedderOptions(
    input_size=32, dimension=8, tap="block_3_project_BN", alpha=0.35, classes_per_batch=2,
    images_per_class=2, steps=4, evaluate_every=2, learning_rate=3e-3,
)
state = Path(sys.argv[3])
trained = train_embedder(
    train, validation, options, silent, strategy=strategy, state=state, key="k"
)
weights = b"".join(array.tobytes() for array in trained.model.get_weights())
print("RESULT", json.dumps({
    "weights": hashlib.sha256(weights).hexdigest(),
    "history": [list(row) for row in trained.history],
    "best": trained.best_step,
    "resumed_at": trained.resumed_at,
    "logs": (state / "tensorboard").is_dir(),
}))
"""


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(0)
    for animal in range(3):
        (root / f"cow{animal}").mkdir()
        for number in range(9):
            image = rng.integers(0, 120, (32, 32, 3)).astype(np.uint8)
            image[:, :: 2 + animal] += 100
            cv2.imwrite(str(root / f"cow{animal}" / f"s{number % 3}_{number}.png"), image)
    return root


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(kind: str, crops: Path, state: Path, config: dict[str, Any] | None = None) -> Any:
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    if config:
        environment["TF_CONFIG"] = json.dumps(config)
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, kind, str(crops), str(state)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process: Any) -> dict[str, Any]:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err[-3000:]
    line = next(line for line in out.splitlines() if line.startswith("RESULT "))
    answer: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return answer


def two_workers(crops: Path, states: list[Path]) -> list[dict[str, Any]]:
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = [
        start(
            "multiworker",
            crops,
            states[index],
            {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}},
        )
        for index in range(2)
    ]
    try:
        return [result(process) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_learn_one_network_and_go_on_together(crops: Path, tmp_path: Path) -> None:
    states = [tmp_path / "first", tmp_path / "second"]
    first, second = two_workers(crops, states)
    assert first["weights"] == second["weights"]
    assert first["history"] == second["history"]
    assert (first["logs"], second["logs"]) == (True, False)

    # Two devices of one process see the same batches; only sums are rounded differently.
    mirrored = result(start("mirrored", crops, tmp_path / "mirrored"))
    assert np.array(mirrored["history"])[:, 1:] == pytest.approx(
        np.array(first["history"])[:, 1:], abs=0.02
    )

    again = two_workers(crops, states)
    assert [answer["resumed_at"] for answer in again] == [4, 4]
    assert {answer["weights"] for answer in again} == {first["weights"]}
    # One lost its checkpoint: together they begin again, and end where they ended.
    next(states[1].glob("*.checkpoint")).unlink()
    afresh = two_workers(crops, states)
    assert [answer["resumed_at"] for answer in afresh] == [0, 0]
    assert {answer["weights"] for answer in afresh} == {first["weights"]}


@pytest.mark.parametrize(
    "config",
    [
        "",
        "nonsense",
        "[]",
        '{"cluster": {"worker": ["a:1", "b:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": "x"}}',
    ],
)
def test_a_cluster_that_cannot_be_is_told(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(UsageError, match="TF_CONFIG"):
        make_strategy("multiworker")


def test_names() -> None:
    assert make_strategy("single").num_replicas_in_sync == 1
    with pytest.raises(UsageError, match="no strategy 'many'"):
        make_strategy("many")
    assert resolve_precision("mixed_bfloat16") == "mixed_bfloat16"
