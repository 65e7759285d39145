"""containerd as the cluster uses it, through its own command `ctr`."""

from dataclasses import dataclass
from pathlib import Path

from local.cluster.command import output, succeeds

NAMESPACE = "k8s.io"  # where the CRI plugin, and so the kubelet, keeps images and containers
IMPORT_SECONDS = 600.0  # a base image of 200 MB on a slow disk, with room


@dataclass(frozen=True)
class Containerd:
    """One containerd, by its socket."""

    ctr: Path
    socket: Path

    def command(self, *arguments: str) -> list[str]:
        return [str(self.ctr), f"--address={self.socket}", f"--namespace={NAMESPACE}", *arguments]

    def answers(self) -> bool:
        return self.socket.exists() and succeeds(self.command("--connect-timeout=2s", "version"), timeout=10)

    def images(self) -> set[str]:
        """The names of all images."""
        return set(output(self.command("images", "list", "--quiet")).split())

    def pulls(self, name: str, timeout: float) -> bool:
        """Whether the image could be pulled from its registry within ``timeout`` seconds."""
        return succeeds(self.command("images", "pull", "--local", name), timeout)

    def import_image(self, archive: Path) -> None:
        """Loads an OCI archive under the names written in it and unpacks it."""
        output(self.command("images", "import", "--local", str(archive)), timeout=IMPORT_SECONDS)

    def remove_containers(self) -> None:
        """Forgets every container, with its snapshot. Their processes must be gone."""
        for container in output(self.command("containers", "list", "--quiet")).split():
            succeeds(self.command("containers", "remove", container))
