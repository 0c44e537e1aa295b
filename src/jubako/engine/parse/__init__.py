"""The values of docker's and podman's flags, read: one pure function a flag, each with one clear error."""
