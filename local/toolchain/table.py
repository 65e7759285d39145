"""Which tools there are: what each one is built from, and where its publisher offers it ready-made."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MODULES = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Download:
    """An archive of a publisher, with the file in which the publisher says its checksum.

    ``{version}`` (without the v) and ``{arch}`` are filled in; ``members`` maps paths in the archive to names of ours, and
    an empty mapping says that the file is the binary itself.
    """

    url: str
    checksums: str
    members: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Tool:
    """Binaries, or files of a module, that come together.

    ``go_module`` is the module whose version, in ``<name>/go.mod``, is the tool's. ``build_seconds`` is what a build from
    empty caches took on two cores. ``stamp`` is the variable in which the program keeps its own version. ``development``
    says that only changing this project needs it.
    """

    name: str
    go_module: str
    packages: tuple[str, ...]
    binaries: tuple[str, ...]
    build_seconds: int
    stamp: str = ""
    stamp_prefix: str = "v"
    share: Mapping[str, str] = field(default_factory=dict)  # name below share/ -> path in ``share_module``
    share_module: str = ""
    download: Download | None = None
    development: bool = field(default=False, repr=False)  # says nothing of what is built

    @property
    def sources(self) -> Path:
        return MODULES / self.name

    @property
    def version(self) -> str:
        """Without the v."""
        found = re.search(
            rf"^\s*{re.escape(self.go_module)} v(\S+)", (self.sources / "go.mod").read_text(), re.MULTILINE
        )
        if found is None:
            raise ValueError(f"{self.sources / 'go.mod'} does not require {self.go_module}")
        return found[1]

    @property
    def linker_flags(self) -> str:
        stamp = f" -X {self.stamp}={self.stamp_prefix}{self.version}" if self.stamp else ""
        return f"-s -w{stamp}"


CONTAINERD = "github.com/containerd/containerd/v2/cmd"
GITHUB = "https://github.com"

TOOLS = (
    Tool(
        name="pulumi",
        go_module="github.com/pulumi/pulumi/pkg/v3",
        packages=("tool",),
        binaries=("pulumi",),
        build_seconds=210,
        stamp="github.com/pulumi/pulumi/sdk/v3/go/common/version.Version",
        stamp_prefix="",  # the Automation API parses it
        share={"python": "python/cmd"},
        share_module="github.com/pulumi/pulumi/sdk/v3",
        download=Download(
            url="https://get.pulumi.com/releases/sdk/pulumi-v{version}-linux-{pulumi_arch}.tar.gz",
            checksums=GITHUB + "/pulumi/pulumi/releases/download/v{version}/SHA512SUMS",
            members={
                "pulumi/pulumi": "pulumi",
                "pulumi/pulumi-language-python": "pulumi-language-python",
                "pulumi/pulumi-language-python-exec": "share/python/pulumi-language-python-exec",
            },
        ),
    ),
    Tool(
        name="kube",
        go_module="k8s.io/kubernetes",
        packages=(
            "./cmd/...",
            f"{CONTAINERD}/containerd",
            f"{CONTAINERD}/containerd-shim-runc-v2",
            f"{CONTAINERD}/ctr",
        ),
        binaries=("kube", "coredns", "fakegpu", "netpolicy", "pause", "containerd", "containerd-shim-runc-v2", "ctr"),
        build_seconds=415,
        stamp="k8s.io/component-base/version.gitVersion",
    ),
    # These two come after kube: they share most of what they are made of with it, and it is compiled by then.
    Tool(
        name="helm",
        go_module="helm.sh/helm/v3",
        packages=("tool",),
        binaries=("helm",),
        build_seconds=20,
        stamp="helm.sh/helm/v3/internal/version.version",
        download=Download(
            url="https://get.helm.sh/helm-v{version}-linux-{arch}.tar.gz",
            checksums="https://get.helm.sh/helm-v{version}-linux-{arch}.tar.gz.sha256sum",
            members={"linux-{arch}/helm": "helm"},
        ),
    ),
    Tool(
        name="kube-state-metrics",
        go_module="k8s.io/kube-state-metrics/v2",
        packages=("tool",),
        binaries=("kube-state-metrics",),
        build_seconds=20,
        stamp="github.com/prometheus/common/version.Version",
        share={"standard": "examples/standard"},
        share_module="k8s.io/kube-state-metrics/v2",
    ),
    Tool(
        name="buildkit",
        go_module="github.com/moby/buildkit",
        packages=("tool",),
        binaries=("buildkitd", "buildctl"),
        build_seconds=85,
        download=Download(
            url=GITHUB + "/moby/buildkit/releases/download/v{version}/buildkit-v{version}.linux-{arch}.tar.gz",
            checksums=GITHUB
            + "/moby/buildkit/releases/download/v{version}/buildkit-v{version}.linux-{arch}.tar.gz.sha256",
            members={"bin/buildkitd": "buildkitd", "bin/buildctl": "buildctl"},
        ),
    ),
    Tool(
        name="keda",
        go_module="github.com/kedacore/keda/v2",
        packages=("tool",),
        binaries=("operator", "adapter", "webhooks"),
        build_seconds=265,
        stamp="github.com/kedacore/keda/v2/version.Version",
        share={"config": "config"},
        share_module="github.com/kedacore/keda/v2",
    ),
    Tool(
        name="prometheus-operator",
        go_module="github.com/prometheus-operator/prometheus-operator",
        packages=("tool",),
        binaries=("operator", "prometheus-config-reloader"),
        build_seconds=95,
        share={"bundle.yaml": "bundle.yaml", "crds": "example/prometheus-operator-crd"},
        share_module="github.com/prometheus-operator/prometheus-operator",
    ),
    Tool(
        name="prometheus",
        go_module="github.com/prometheus/prometheus",
        packages=("tool",),
        binaries=("prometheus", "promtool"),
        build_seconds=250,
        # The Go module of Prometheus 3.14 is v0.314: the release's own numbering is not the module's.
        download=Download(
            url=GITHUB + "/prometheus/prometheus/releases/download/v{release}/prometheus-{release}.linux-{arch}.tar.gz",
            checksums=GITHUB + "/prometheus/prometheus/releases/download/v{release}/sha256sums.txt",
            members={
                "prometheus-{release}.linux-{arch}/prometheus": "prometheus",
                "prometheus-{release}.linux-{arch}/promtool": "promtool",
            },
        ),
    ),
    # The definition of HTTPRoute, for tests: clusters get theirs with their Gateway.
    Tool(
        name="gateway-api",
        go_module="sigs.k8s.io/gateway-api",
        packages=(),
        binaries=(),
        build_seconds=5,
        share={"crds": "config/crd/standard"},
        share_module="sigs.k8s.io/gateway-api",
        development=True,
    ),
    Tool(
        name="actionlint",
        go_module="github.com/rhysd/actionlint",
        packages=("tool",),
        binaries=("actionlint",),
        build_seconds=20,
        download=Download(
            url=GITHUB + "/rhysd/actionlint/releases/download/v{version}/actionlint_{version}_linux_{arch}.tar.gz",
            checksums=GITHUB + "/rhysd/actionlint/releases/download/v{version}/actionlint_{version}_checksums.txt",
            members={"actionlint": "actionlint"},
        ),
        development=True,
    ),
)
