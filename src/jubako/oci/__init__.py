"""The OCI runtime: what `create`, `start`, `kill`, `update` and their like do to a bundle's container."""
