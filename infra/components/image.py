"""The server's image, always by digest."""

import os
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_docker as docker

from infra.config.schema import BuildImage, PrebuiltImage

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "service" / "Dockerfile"


@dataclass(frozen=True, kw_only=True)
class ServerImageArgs:
    """Where the image comes from; ``tag`` is what a built one is pushed under."""

    source: BuildImage | PrebuiltImage
    tag: str


class ServerImage(pulumi.ComponentResource):
    """Builds and pushes the image, or takes the one that is named."""

    reference: pulumi.Output[str]  # repository@sha256:…

    def __init__(self, name: str, args: ServerImageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:ServerImage", name, None, opts)
        match args.source:
            case PrebuiltImage(reference=reference):
                self.reference = pulumi.Output.from_input(reference)
            case BuildImage() as source:
                self.reference = self._build(name, source, args.tag).repo_digest
        self.register_outputs({"reference": self.reference})

    def _build(self, name: str, source: BuildImage, tag: str) -> docker.Image:
        return docker.Image(
            name,
            image_name=f"{source.repository}:{tag}",
            build=docker.DockerBuildArgs(
                # Relative to the program's directory, as the plugin resolves it: another checkout has the same inputs.
                context=_relative(ROOT),
                dockerfile=_relative(DOCKERFILE),
                platform=source.platform,
                args={"BASE_IMAGE": source.base_image} if source.base_image else None,
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )


def _relative(path: Path) -> str:
    return os.path.relpath(path, ROOT / "infra")
