"""The kinds that ship with zactor, a folder each. `zactor.registry` finds them; nothing imports this page."""
