"""Plans carried out: the applier, the base user namespace, the supervisor, the launcher."""
