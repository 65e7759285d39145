"""Every chart and API version that the stack uses, one line each, with where it comes from."""

import sys
from dataclasses import dataclass

KEDA_API = "keda.sh/v1alpha1"  # kedacore/keda 2.20, apis/keda/v1alpha1
PROMETHEUS_OPERATOR_API = "monitoring.coreos.com/v1"  # prometheus-operator 0.93, pkg/apis/monitoring/v1
GATEWAY_API = "gateway.networking.k8s.io/v1"  # kubernetes-sigs/gateway-api, apis/v1
DEPLOYMENT_API = "apps/v1"  # Kubernetes


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A Helm chart, pinned: its name, its version and its publisher's repository."""

    name: str
    version: str
    repository: str

    @property
    def file(self) -> str:
        """What `helm pull` calls it."""
        return f"{self.name}-{self.version}.tgz"

    def pull(self, folder: str) -> str:
        """The command that puts it into ``folder``."""
        return f"helm pull {self.name} --repo {self.repository} --version {self.version} --destination {folder}"


NVIDIA_DEVICE_PLUGIN = Chart(
    name="nvidia-device-plugin", version="0.20.0", repository="https://nvidia.github.io/k8s-device-plugin"
)
GPU_OPERATOR = Chart(name="gpu-operator", version="v26.7.0", repository="https://helm.ngc.nvidia.com/nvidia")
DCGM_EXPORTER = Chart(
    name="dcgm-exporter", version="4.8.2", repository="https://nvidia.github.io/dcgm-exporter/helm-charts"
)
KEDA = Chart(name="keda", version="2.20.2", repository="https://kedacore.github.io/charts")
PROMETHEUS_COMMUNITY = "https://prometheus-community.github.io/helm-charts"
# The operator's custom resource definitions as templates: Helm upgrades those, and never the ones in a chart's crds/ folder.
PROMETHEUS_OPERATOR_CRDS = Chart(name="prometheus-operator-crds", version="31.0.1", repository=PROMETHEUS_COMMUNITY)
KUBE_PROMETHEUS_STACK = Chart(name="kube-prometheus-stack", version="88.5.3", repository=PROMETHEUS_COMMUNITY)
CHARTS = (NVIDIA_DEVICE_PLUGIN, GPU_OPERATOR, DCGM_EXPORTER, KEDA, PROMETHEUS_OPERATOR_CRDS, KUBE_PROMETHEUS_STACK)


if __name__ == "__main__":
    # For clusters without a way out: `python -m infra.versions FOLDER | sh`, then `charts: {source: folder}`.
    print("\n".join(chart.pull(sys.argv[1] if len(sys.argv) > 1 else ".") for chart in CHARTS))
