"""What a configuration will do, before anything is paid for: pure functions, no Pulumi."""
