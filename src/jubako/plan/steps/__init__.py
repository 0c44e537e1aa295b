"""The steps: each module holds those of one subject. A step's `apply` is the only place that changes anything."""
