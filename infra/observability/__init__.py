"""What people see of the stack: alerts with their runbooks, and the dashboard. Pure: specs and JSON, no resources."""

from infra.observability.dashboard import DASHBOARD_LABELS, Dashboard
from infra.observability.model import ModelRules
from infra.observability.platform import PlatformRules

__all__ = ["DASHBOARD_LABELS", "Dashboard", "ModelRules", "PlatformRules"]
