"""From an instance of a topology to an actor in a kernel, the same in every world."""

from __future__ import annotations

from pathlib import Path

from zactor import registry
from zactor.actor import describe
from zactor.life import Life
from zactor.topology.model import Instance
from zactor.topology.settings import typed_settings


def add_instance(life: Life, instance: Instance) -> None:
    """Create a node of a topology. Raises UserError for a kind or a setting that is wrong."""
    kind = registry.find(instance.kind, Path(instance.folder))
    roles = describe(kind).links
    life.add(
        instance.name,
        kind,
        typed_settings(kind, instance.settings),
        {role: names if roles[role].many else names[0] for role, names in instance.links.items() if names},
        None if instance.restart is None else instance.restart.supervision(),
        mailbox_size=instance.mailbox,
        drops={target: said == "drop" for target, said in instance.overflow.items()},
    )
