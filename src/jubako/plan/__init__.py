"""Spec and facts in, a totally ordered tuple of steps out. Pure: no system call outside a step's `apply`."""
