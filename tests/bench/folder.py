"""A folder in the form of a node's disk, for what is written without a kernel."""
