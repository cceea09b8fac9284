"""Where everything of earmark lies on a device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

ACCOUNT = "earmark"


@dataclass(frozen=True, slots=True)
class Places:
    """The paths of one device, below its `root` (`/` of a real one), as text for its shell."""

    root: str = "/"

    def at(self, path: str) -> str:
        """Return an absolute path of a device as it is on the host."""
        return str(PurePosixPath(self.root) / path.lstrip("/"))

    @property
    def real(self) -> bool:
        """Whether the host is the device: then there are accounts, owners, and systemd."""
        return PurePosixPath(self.root) == PurePosixPath("/")

    @property
    def settings(self) -> str:
        """agent.yaml."""
        return self.at("/etc/earmark/agent.yaml")

    @property
    def secrets(self) -> str:
        """The folder of settings, certificate, key and password."""
        return self.at("/etc/earmark")

    @property
    def store(self) -> str:
        """Releases, trust and the outbox: what outlives everything else."""
        return self.at("/var/lib/earmark")

    @property
    def live(self) -> str:
        """What running programs tell each other; on a real device a link to `memory`."""
        return f"{self.store}/run"

    @property
    def memory(self) -> str:
        """A folder that costs no write to the card."""
        return self.at("/run/earmark")

    @property
    def cache(self) -> str:
        """What is copied to the device, and could be copied again."""
        return self.at("/var/cache/earmark")

    @property
    def wheels(self) -> str:
        """The packages of the Python environment."""
        return f"{self.cache}/wheels"

    @property
    def repository(self) -> str:
        """The repository folder that flash fills and the updater reads."""
        return f"{self.cache}/repository"

    @property
    def programs(self) -> str:
        """The folder of Python environments."""
        return self.at("/opt")

    @property
    def environment(self) -> str:
        """The link to the Python environment in use."""
        return f"{self.programs}/earmark"

    @property
    def edge(self) -> str:
        """The program `earmark-edge`."""
        return f"{self.environment}/bin/earmark-edge"
