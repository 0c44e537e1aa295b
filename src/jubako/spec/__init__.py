"""The OCI runtime-spec document: types, defaults, reading with JSON paths in the messages, writing."""
