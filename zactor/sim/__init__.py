"""Worlds made of a heap of events: time is a number, the network and the disks are memory."""
