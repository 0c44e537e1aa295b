"""The commands of the OCI runtime: each parses, calls one function of `jubako.oci`, and prints."""
