"""Training on several devices or machines (`tf.distribute`), and in mixed precision."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import keras
import tensorflow as tf

from edge.errors import UsageError

StrategyName = Literal["single", "mirrored", "multiworker"]
STRATEGIES: tuple[StrategyName, ...] = ("single", "mirrored", "multiworker")


def make_strategy(name: StrategyName) -> tf.distribute.Strategy:
    """Return how training is spread.

    single: one device. mirrored: every GPU of this machine. multiworker: the machines that the
    environment's TF_CONFIG lists, each of which runs the same command. Must be called before
    anything else of TensorFlow for `multiworker`. Raises UsageError without a usable TF_CONFIG.
    """
    if name == "single":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "multiworker":
        _check_cluster(os.environ.get("TF_CONFIG", ""))
        return tf.distribute.MultiWorkerMirroredStrategy()
    raise UsageError(f"no strategy {name!r}; choose one of {', '.join(STRATEGIES)}")


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Return whether this process writes what training leaves: the only worker or the first."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    return bool(resolver.task_type == "chief" or resolver.task_id == 0)


def resolve_precision(precision: str) -> str:
    """Return a Keras dtype policy; "auto" is mixed_float16 where there is a GPU."""
    if precision != "auto":
        return precision
    return "mixed_float16" if tf.config.list_physical_devices("GPU") else "float32"


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Build layers under a Keras dtype policy, then put the old one back."""
    old = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(old)


def _check_cluster(text: str) -> None:
    advice = (
        "give every machine TF_CONFIG, such as "
        '{"cluster": {"worker": ["host-a:5000", "host-b:5000"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    try:
        config = json.loads(text)
        workers = config["cluster"]["worker"]
        index, kind = config["task"]["index"], config["task"]["type"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--strategy multiworker needs the cluster: {advice}") from error
    if kind not in config["cluster"] or not 0 <= int(index) < len(config["cluster"][kind]):
        raise UsageError(f"TF_CONFIG: task {kind} {index} is not among the {len(workers)} workers")
