"""Runs a state machine: messages, sessions, a host, a client. Who orders the log is somebody else."""
