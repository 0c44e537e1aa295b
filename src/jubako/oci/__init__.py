"""The OCI runtime: what engines call (OCI runtime-spec 1.3, runtime.md; the command lines of runc and crun)."""
