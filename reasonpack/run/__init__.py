"""The layer that runs work units: plan, process, publish."""
