"""The books of kernels: no message is made, and none vanishes."""

from __future__ import annotations

from zactor.kernel import Kernel
from zactor.sim.virtual import Virtual


def assert_balanced(*kernels: Kernel) -> None:
    """sent + received = handled + dead + queued + outbox + shipped, in each process on its own."""
    for kernel in kernels:
        books = kernel.books()
        there = books["sent"] + books["received"]
        found = sum(books[column] for column in ("handled", "dead", "queued", "outbox", "shipped"))
        assert there == found, f"{kernel.process}: {books}, dead letters: {dict(kernel.dead)}"


def assert_all_balanced(virtual: Virtual) -> None:
    """The books of every process balance, and what was shipped between living ones was received."""
    kernels = [world.kernel for world in virtual.processes.values()]
    assert_balanced(*kernels)
    if all(world.up and world.incarnation == 1 for world in virtual.processes.values()):
        shipped = sum(kernel.shipped for kernel in kernels)
        assert shipped == sum(kernel.received for kernel in kernels)
