"""What is kept of a run for those who look for a mistake: recordings, and their replay."""
