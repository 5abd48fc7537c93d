"""Starts, watches, restarts and stops the processes of a run. An engine is a file: `start(assignment) -> Handle`."""
