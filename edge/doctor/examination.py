"""Everything that a person at a barn would be asked on the phone, in the order of asking."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from edge.config import AgentConfig
from edge.doctor import accelerators, cameras, machine, models, network, storage
from edge.doctor.verdict import Host, Probe, Verdict, examine
from edge.errors import EarmarkError
from edge.release.bundle import has_compiled, read_manifest

# A camera that is away is told after this, whatever its own patience.
CAMERA_S = 8.0
_USUAL_S = 10.0
# A Raspberry Pi with a slow card takes its time to load and prove a bundle.
_BUNDLE_S = 90.0
# An accelerator that hangs does so for a minute before it is given up.
_BACKEND_S = 60.0 + _BUNDLE_S


def examination(config: AgentConfig, host: Host | None = None) -> Iterator[Verdict]:
    """Yield verdicts on this machine and on everything that `config` names, as they come."""
    host = host or Host()
    directory = Path(config.bundle)
    wanted = config.inference.accelerator
    probes: list[tuple[str, Probe, float]] = [
        ("versions", partial(machine.versions, host), _USUAL_S),
        ("runtime", machine.runtime, _USUAL_S),
        ("processor", partial(machine.processor, host), _USUAL_S),
        ("memory", partial(machine.memory, host), _USUAL_S),
        ("temperature", partial(machine.heat, host), _USUAL_S),
        ("clock", partial(machine.clock, config.clock), _USUAL_S),
        ("storage", partial(storage.storage, config.state_folder()), _USUAL_S),
        ("bundle", partial(models.bundle, directory, config.threads), _BUNDLE_S),
        (
            "accelerator",
            lambda: accelerators.coral(host, wanted, compiled=_compiled(directory)),
            _USUAL_S,
        ),
        ("accelerator", partial(accelerators.backend, config), _BACKEND_S),
        ("ffmpeg", partial(cameras.ffmpeg, config.cameras), _USUAL_S),
        *(
            (f"camera {camera.name}", partial(cameras.camera, camera, CAMERA_S), CAMERA_S + 2)
            for camera in config.cameras
        ),
        ("broker", partial(network.broker, config), 2 * _USUAL_S),
    ]
    for topic, probe, limit_s in probes:
        yield from examine(topic, probe, limit_s)


def _compiled(directory: Path) -> bool:
    try:
        return has_compiled(read_manifest(directory))
    except EarmarkError:  # the bundle has a verdict of its own
        return False
