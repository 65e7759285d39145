"""The embedded one-node Kubernetes cluster: its processes, network, images and add-ons."""
