"""An actor in a file, which can be changed while its topology runs."""

from zactor import Actor


class Lone(Actor):
    """It does nothing."""
