"""The values with which each chart is installed: pure functions of the configuration, one module per chart."""
