module example.invalid/tools/gateway-api

go 1.26.0

// Nothing of it is compiled, so nothing here imports it.
require (
	sigs.k8s.io/gateway-api v1.6.3
)
