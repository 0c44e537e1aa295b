"""Real engines with our runtime; a package, so that its fixtures end with its last test and not with the session."""
