"""The command line: one file for each group of verbs that hold for every topology, imported when it is called."""
