"""Raft: a pure core so far; see README.md."""
