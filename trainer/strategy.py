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
CHIEF = "chief"
STRATEGIES: tuple[StrategyName, ...] = ("single", "mirrored", "multiworker")


def make_strategy(name: str) -> tf.distribute.Strategy:
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
    return worker_number(strategy) == 0


def worker_number(strategy: tf.distribute.Strategy) -> int:
    """Return which of the cluster's workers this process is, 0 when it is the only one."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type or resolver.task_type == CHIEF:
        return 0
    # A chief, where the cluster names one, comes before the workers.
    return int(resolver.task_id or 0) + int(CHIEF in resolver.cluster_spec().jobs)


def local_replicas(strategy: tf.distribute.Strategy) -> list[int]:
    """Return the numbers of this process's replicas among those of all workers."""
    if strategy.num_replicas_in_sync == 1:
        return [0]
    count = len(strategy.extended.worker_devices)
    return [worker_number(strategy) * count + number for number in range(count)]


def same_everywhere(strategy: tf.distribute.Strategy, value: int) -> bool:
    """Return whether all workers have the same value; all must ask at the same time."""
    if strategy.num_replicas_in_sync == 1:
        return True

    def add_up() -> tf.Tensor:
        mine = tf.constant([1.0, value, value * value], tf.float64)
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, mine)

    found = tf.function(lambda: strategy.run(add_up))()
    count, total, squares = (float(part) for part in strategy.experimental_local_results(found)[0])
    return count * squares == total * total


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
        kind, index = config["task"]["type"], int(config["task"]["index"])
        count = len(config["cluster"][kind])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--strategy multiworker needs the cluster: {advice}") from error
    if kind not in (CHIEF, "worker"):
        raise UsageError(f"TF_CONFIG: a {kind} takes no part in training; {advice}")
    if not 0 <= index < count:
        raise UsageError(f"TF_CONFIG: there is no {kind} {index} among {count}; {advice}")
