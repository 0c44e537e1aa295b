"""Named containers: what is asked for, how it becomes an OCI document, and what is kept about it."""
