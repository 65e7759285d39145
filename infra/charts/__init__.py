"""The values with which each chart is installed: pure functions of the configuration, one module per chart."""

# Helm leaves such objects where they are when their release goes. With a custom resource definition all its objects
# would go: every ScaledObject in the cluster, of other stacks too.
KEEP = {"helm.sh/resource-policy": "keep"}
