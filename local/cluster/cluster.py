"""The embedded cluster as a whole: up, down, and what it is doing."""

from dataclasses import dataclass
from pathlib import Path

from local import state
from local.cluster import addons, base_image, control_plane, images, network, node, preflight, teardown
from local.cluster.command import Kubectl
from local.cluster.containerd import Containerd
from local.cluster.daemon import homes, marked_processes
from local.cluster.layout import Layout
from local.paths import HOME_VARIABLE, Paths
from local.screen import LocalError, Screen
from local.toolchain import Tools

ADDONS_SECONDS = 40.0  # seen on two cores


@dataclass(frozen=True)
class Cluster:
    """One node, its add-ons and its images, described by a state directory and the tools that run it."""

    paths: Paths
    tools: Tools

    @property
    def layout(self) -> Layout:
        return Layout(self.paths)

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.tools.kubectl, self.layout.kubeconfig())

    @staticmethod
    def check(paths: Paths) -> None:
        """Raises :class:`LocalError` where the host cannot take the cluster: another one runs, disk, ports."""
        _only_one(paths)
        preflight.check(Layout(paths))

    def holds(self, repository: str) -> bool:
        """Whether the node has an image of the repository."""
        images = Containerd(self.tools.ctr, self.layout.containerd_socket).images()
        return any(name.startswith(f"{repository}@") for name in images)

    def up(self, screen: Screen, fake_gpus: int = 0) -> None:
        """Makes the cluster run as declared; what runs already is left alone."""
        layout = self.layout
        for directory in (layout.state, layout.archives):
            directory.mkdir(parents=True, exist_ok=True)
        with screen.step("Network"):
            network.set_up(layout)
        with screen.step("Control plane"):
            control_plane.start(layout, self.tools.kubernetes, self.kubectl)
        with screen.step("Node"):
            node.start(
                layout,
                self.tools,
                self.kubectl,
                lambda ctr: images.provide(ctr, addons.images(self.tools), layout.archives),
            )
            node.offer_gpus(layout, self.tools, self.kubectl, fake_gpus)
        with screen.step("DNS, KEDA, Prometheus", ADDONS_SECONDS) as step:
            addons.install(self.kubectl, self.tools, step)
        with screen.step("Base image", base_image.EXPECTED_SECONDS) as step:
            base_image.provide(Containerd(self.tools.ctr, layout.containerd_socket), layout.archives, step)

    @staticmethod
    def down(paths: Paths, screen: Screen, *, purge: bool = False) -> None:
        """Takes everything off the host; needs no tools, so that it works from any checkout and after any accident.

        Raises:
            LocalError: something holds a mount, or a purge would lose the state of stacks on other clusters.
        """
        kept = ", ".join(f"{name} ({count} resources)" for name, count in state.others(paths.pulumi).items())
        if purge and kept:
            raise LocalError(
                f"{paths.pulumi} has the state of other stacks: {kept}. Without it nobody can update or destroy them.",
                "`pulumi destroy` and `pulumi stack rm` each of them, or move it with `pulumi stack export`; then purge again.",
            )
        _only_one(paths)
        with screen.step("Stopping the cluster") as step:
            teardown.tear_down(Layout(paths), step)
        if kept:
            screen.say(f"  The state of other stacks stays in {paths.pulumi}: {kept}")
        if purge:
            with screen.step(f"Removing what is ours in {paths.home}"):
                paths.remove()

    @staticmethod
    def running(paths: Paths) -> list[str]:
        """The names of the cluster's processes that are alive."""
        return sorted({Path(process.name).name for process in marked_processes(paths.home)})


def _only_one(paths: Paths) -> None:
    """One such cluster runs on a host; it is found again by the state directory that it was started with."""
    if other := next(iter(homes() - {str(paths.home)}), None):
        raise LocalError(
            f"The cluster that runs on this machine belongs to {other}, and not to {paths.home}.",
            f"Set {HOME_VARIABLE}={other} and run the command again.",
        )
