"""Ways between simulated processes, without launcher and actors."""

from __future__ import annotations

from zactor.sim.world import Knobs, Simulation
from zactor.wire import MAIL, Batch, frame


def test_a_refused_kind_is_that_of_a_letter_and_not_any_name_of_its_frame() -> None:
    sim = Simulation(1, Knobs(), 0)
    near, far = sim.boot("near", 1, 1), sim.boot("far", 2, 1)
    near.incarnations = {far.process: far.incarnation}
    way = sim.network.way("near", "far")
    way.refused = (b"Ballot",)
    way.judge()
    batch = Batch()

    for sequence, kind in enumerate(["Note", "Ballot", "Note"], 1):
        batch.add(kind, "t", "s", sequence, 0, 0, 0, None)
        assert sim.network.send(near, "far", MAIL, frame(1, sequence, (0, 0, 0), batch.close()), [])

    assert sim.acted == {"refuse": 1}
