"""What clients saw, and whether a system that keeps its promises could have shown it to them. See README.md."""
