"""A topology, from its file to its processes.

`source` reads YAML into a tree whose every key and value knows its place; `read` makes the typed model of
`model` from it; `check` holds the model against the kinds that it names; `placement` says which process runs
what. Each of them adds to one report of `diagnostics`, so that a wrong file is told everything at once.
Start at `read.load`.
"""
