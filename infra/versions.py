"""API versions of what the stack creates, each with the project that defines it."""

KEDA_API = "keda.sh/v1alpha1"  # kedacore/keda 2.20, apis/keda/v1alpha1
PROMETHEUS_OPERATOR_API = "monitoring.coreos.com/v1"  # prometheus-operator 0.93, pkg/apis/monitoring/v1
DEPLOYMENT_API = "apps/v1"  # Kubernetes
