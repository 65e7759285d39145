"""The server's image, always by digest."""

from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

from infra.components.pull_secret import pull_secret
from infra.config.schema import BuildImage, PrebuiltImage, Registry
from infra.project import ROOT, from_program

DOCKERFILE = ROOT / "service" / "Dockerfile"


@dataclass(frozen=True, kw_only=True)
class ServerImageArgs:
    """Where the image comes from, and the namespace whose pods pull it; ``tag`` is what a built one is pushed under."""

    source: BuildImage | PrebuiltImage
    tag: str
    namespace: pulumi.Input[str]


class ServerImage(pulumi.ComponentResource):
    """Builds and pushes the image, or takes the one that is named; with what the pods need to pull it."""

    reference: pulumi.Output[str]  # repository@sha256:…
    pull_secrets: tuple[str, ...]
    pullable: tuple[pulumi.Resource, ...]  # what must be there before a pod pulls

    def __init__(self, name: str, args: ServerImageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:ServerImage", name, None, opts)
        match args.source:
            case PrebuiltImage(reference=reference):
                self.reference = pulumi.Output.from_input(reference)
            case BuildImage() as source:
                self.reference = self._build(name, source, args.tag).repo_digest
        self.pull_secrets, self.pullable = args.source.pull_secrets, ()
        if args.source.registry is not None:
            # Stacks that share a namespace have a Secret each.
            secret = f"llm-stack-{_object_name(args.tag)}-registry"
            self.pull_secrets = (secret, *self.pull_secrets)
            child = pulumi.ResourceOptions(parent=self)
            self.pullable = (pull_secret("registry", secret, args.namespace, args.source.registry, child),)
        self.register_outputs({"reference": self.reference})

    def _build(self, name: str, source: BuildImage, tag: str) -> docker.Image:
        arguments = {"BASE_IMAGE": source.base_image} if source.base_image else {}
        if source.cache_from:
            arguments["BUILDKIT_INLINE_CACHE"] = "1"  # so that the next builder may reuse this image's layers
        return docker.Image(
            name,
            image_name=f"{source.repository}:{tag}",
            build=docker.DockerBuildArgs(
                context=from_program(ROOT),
                dockerfile=from_program(DOCKERFILE),
                platform=source.platform,
                args=arguments or None,
                cache_from=docker.CacheFromArgs(images=list(source.cache_from)) if source.cache_from else None,
            ),
            registry=_login(source.registry) if source.registry else None,
            opts=pulumi.ResourceOptions(parent=self),
        )


def _object_name(stack: str) -> str:
    """A stack's name as a part of an object's name, which has neither capitals nor underscores, nor two dots in a row."""
    return stack.lower().translate(str.maketrans("_.", "--"))


def _login(registry: Registry) -> docker.RegistryArgs:
    return docker.RegistryArgs(
        server=registry.server, username=registry.username, password=pulumi.Output.secret(registry.password)
    )
