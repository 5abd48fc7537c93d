"""The network between simulated processes: connections as ZeroMQ has them, over ways that can be slow, shut or bad.

A **way** leads from one process to another and has a latency. A **connection** is opened by one process to one
incarnation of another and carries frames on three lanes: whole, in order on each lane, until it ends. What is on
its way when a process dies or the connection is cut is lost; whoever took frames by a connection hears of its end.
The opener does not: it goes on by a new connection of the same name, and only after `disconnect` by one of another
token. What is sent into a partition waits, as in the buffers of TCP, until ZeroMQ's heartbeats end the connection.

Adversarial ways lose, double and reorder frames as no ZeroMQ does; the kernel must find that out by their numbers. When
a way that has lost frames gets better, its connection ends: the last frame of all would be missed by nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import heappush
from typing import TYPE_CHECKING, Any

from zactor.sim.heap import Chance
from zactor.wire import CONTROL, LANES, Route, decode_frame

if TYPE_CHECKING:
    from zactor.sim.world import ProcessWorld, Simulation

END_NOTICE_NS = 1_000_000
"""How long an operating system takes to tell that the other end of a connection is gone."""


class Way:
    """From one process to another. A `plain` way has none of the faults that are set here."""

    __slots__ = (
        "base_ns",
        "doubles",
        "extra_ns",
        "has_lost",
        "held",
        "jitter_ns",
        "last_ns",
        "loses",
        "plain",
        "refused",
        "reorders",
        "shut",
        "since_ns",
    )

    def __init__(self, base_ns: int, jitter_ns: int) -> None:
        self.base_ns = base_ns
        self.jitter_ns = jitter_ns
        self.last_ns = [0] * len(LANES)  # nothing overtakes what was sent before it
        self.plain = True
        self.shut = 0  # partitions that shut it now
        self.held: list[Any] = []  # what waits for its opening: (direction, lane, frame, blobs) or (direction, None)
        self.extra_ns = 0
        self.loses = self.doubles = self.reorders = 0  # in a hundred
        self.has_lost = False
        self.since_ns = 0  # when it was shut
        self.refused: tuple[bytes, ...] = ()  # kinds of messages that do not pass

    def judge(self) -> None:
        """Note whether it has any fault."""
        faults = (self.shut, self.extra_ns, self.loses, self.doubles, self.reorders, self.refused, self.held)
        self.plain = not any(faults)


class Direction:
    """One direction of a connection: from a process to one incarnation of another. `sources` name it, by lane."""

    __slots__ = ("connection", "lanes", "sources", "take", "target", "way")

    def __init__(self, target: ProcessWorld, way: Way, route: Route) -> None:
        self.target = target
        self.take = target.take  # where its frames arrive
        self.way = way
        self.sources = [str(route._replace(lane=lane)) for lane in range(len(LANES))]
        self.connection: Connection
        self.lanes: set[int]  # by which its connection's opener has sent


class Connection:
    """Both directions of what one process has opened to another."""

    __slots__ = ("back", "forth", "opener", "token")

    def __init__(self, opener: ProcessWorld, token: str, forth: Direction, back: Direction) -> None:
        self.opener = opener
        self.token = token
        self.forth = forth
        self.back = back
        forth.connection = back.connection = self
        forth.lanes = back.lanes = set()


class Network:
    """All ways and connections of one simulation. `acted` counts what its faults did."""

    def __init__(self, sim: Simulation, base_ns: int, jitter_ns: int, acted: Counter[str]) -> None:
        self._sim = sim
        self._base_ns = base_ns
        self._jitter_ns = jitter_ns
        self._acted = acted
        self._ways: dict[tuple[str, str], Way] = {}
        self._chance = Chance(sim.stream("network"))
        self._bits = self._chance.bits
        self._tokens = 0

    def way(self, source: str, target: str) -> Way:
        """The way between two processes."""
        way = self._ways.get((source, target))
        if way is None:
            way = self._ways[source, target] = Way(self._base_ns, self._jitter_ns)
        return way

    # --- what kernels ask
    def send(self, world: ProcessWorld, to: str, lane: int, frame: bytes, blobs: list[bytes]) -> bool:
        """`World.send`."""
        direction = world.directions.get(to)
        if direction is None:
            if not world.up:
                return True
            direction = self._find(world, to)
            if direction is None:
                return to[:1] != "@" or "#" in to  # nobody takes it; but a client may not have opened this lane yet
        if lane not in direction.lanes:
            if direction.connection.opener is world:
                direction.lanes.add(lane)
            elif "#" not in to:
                return False  # a client is answered on lanes that it has opened
        way, sim = direction.way, self._sim
        if not way.plain:
            self._send_badly(direction, lane, frame, blobs)
            return True
        at_ns = sim.now_ns + way.base_ns + (self._bits(16) * way.jitter_ns >> 16)
        last_ns = way.last_ns
        if at_ns < last_ns[lane]:
            at_ns = last_ns[lane]
        last_ns[lane] = at_ns
        heappush(sim.heap, (at_ns, sim.order(), direction.take, (direction.sources[lane], frame, blobs)))
        return True

    def _find(self, world: ProcessWorld, to: str) -> Direction | None:
        """The direction to a process, opened if need be; or back to who sends by the connection of that name."""
        route = Route.parse(to) if "#" in to else None
        if route is not None or to[:1] == "@":
            opener = self._sim.processes.get(to if route is None else route.process)
            found: Direction | None = None if opener is None else opener.directions.get(world.process)
            if found is None or found.target is not world or (route and found.connection.token != route.token):
                return None
            if route is None:
                world.directions[to] = found.connection.back
            return found.connection.back
        target = self._sim.processes.get(to)
        if target is None or not target.up or world.incarnations.get(to) != target.incarnation:
            return None  # there is nobody, or nobody whom it knows of
        self._tokens += 1
        token = f"{self._tokens:08x}"
        forth = Direction(target, self.way(world.process, to), Route(world.process, world.incarnation, 0, token))
        back = Direction(world, self.way(to, world.process), Route(to, target.incarnation, 0, ""))
        Connection(world, token, forth, back)
        world.directions[to] = forth
        target.directions.pop(world.process if world.process[:1] == "@" else "", None)  # a client has one connection
        return forth

    def disconnect(self, world: ProcessWorld, to: str) -> None:
        """`World.disconnect`: what was sent still arrives; then the other side hears that the connection has ended."""
        direction = world.directions.pop(to, None)
        if direction is None:
            return
        if direction.connection.opener is world:
            self._end(direction)

    def _end(self, direction: Direction) -> None:
        """Let the far end of a direction know that nothing comes by it any more."""
        way = direction.way
        if way.shut:
            way.held = [entry for entry in way.held if entry[0] is not direction]  # it never left
            way.held.append((direction, None, b"", []))
            return
        at_ns = max(self._sim.now_ns + way.base_ns + END_NOTICE_NS, *way.last_ns)
        self._sim.push(at_ns, self._ended, direction)

    def _ended(self, direction: Direction) -> None:
        target = direction.target
        back = target.directions.get(direction.connection.opener.process)
        if back is not None and back.connection is direction.connection and back is not direction:
            del target.directions[direction.connection.opener.process]
        lanes = sorted(direction.lanes) if direction is direction.connection.forth else [CONTROL]
        for lane in lanes:
            target.lost_source(direction.sources[lane])

    def died(self, world: ProcessWorld) -> None:
        """A process has ended: whoever took frames from it hears so, and clients that were connected to it."""
        for direction in world.directions.values():
            if direction.connection.opener is world:
                self._end(direction)
        world.directions = {}
        for other in self._sim.processes.values():
            direction_to = other.directions.get(world.process)
            if direction_to is not None and direction_to.target is world and other.process[:1] == "@":
                del other.directions[world.process]
                self._end(direction_to.connection.back)

    # --- faults
    def cut(self, source: str, target: str) -> bool:
        """Break the connection that one process has to another: what is on it is lost. Returns whether it had one."""
        world = self._sim.processes.get(source)
        direction = None if world is None else world.directions.get(target)
        if world is None or direction is None or direction.connection.opener is not world:
            return False
        self._lose(direction)
        self._end_now(direction)
        if source[:1] == "@":
            self._lose(direction.connection.back)
            self._end_now(direction.connection.back)
        return True

    def _lose(self, direction: Direction) -> None:
        self._sim.forget(lambda event, values: event == direction.take and values[0] in direction.sources)
        direction.way.held = [entry for entry in direction.way.held if entry[0] is not direction]
        direction.way.judge()

    def _end_now(self, direction: Direction) -> None:
        for lane in sorted(direction.lanes) if direction is direction.connection.forth else ():
            self._sim.push(self._sim.now_ns, direction.target.lost_source, direction.sources[lane])

    def shut(self, source: str, target: str) -> None:
        """Let nothing pass from one process to another until `open` was called as often."""
        way = self.way(source, target)
        way.shut += 1
        way.judge()
        if way.shut == 1:
            way.since_ns = self._sim.now_ns
            self._sim.push(way.since_ns + self._sim.peer_timeout_ns, self._silence, source, target, way.since_ns)

    def _silence(self, source: str, target: str, since_ns: int) -> None:
        """Nothing has passed for so long that ZeroMQ's own heartbeats end the connections, and try new ones."""
        way = self.way(source, target)
        if way.shut and way.since_ns == since_ns:
            self.cut(source, target)
            self.cut(target, source)
            self._sim.push(self._sim.now_ns + self._sim.peer_timeout_ns, self._silence, source, target, since_ns)

    def silenced(self, process: str) -> None:
        """A process has said nothing for that long: the others end their connections with it."""
        for other in list(self._sim.processes):
            self.cut(other, process)
            self.cut(process, other)

    def open(self, source: str, target: str) -> None:
        """Take one `shut` back. What waited goes on, in its order."""
        way = self.way(source, target)
        way.shut = max(0, way.shut - 1)
        held, way.held = way.held, [] if not way.shut else way.held
        way.judge()
        if way.shut:
            return
        for direction, lane, frame, blobs in held:
            if lane is None:
                self._end(direction)
            else:
                self._pass(direction, lane, frame, blobs)

    def lose_no_more(self, source: str, target: str) -> None:
        """Frames that were lost were lost with their connection, in the end: no other loss goes unnoticed for ever."""
        way = self.way(source, target)
        way.loses = 0
        way.judge()
        if way.has_lost:
            way.has_lost = False
            self.cut(source, target)
            if target[:1] == "@":
                self.cut(target, source)

    def heal(self) -> None:
        """Take all faults back."""
        for (source, target), way in self._ways.items():
            self.lose_no_more(source, target)
            way.extra_ns = way.doubles = way.reorders = 0
            way.refused = ()
            while way.shut:
                self.open(source, target)
            way.judge()

    def _send_badly(self, direction: Direction, lane: int, frame: bytes, blobs: Sequence[bytes]) -> None:
        way, chance = direction.way, self._chance
        if way.refused and not _kinds_in(frame).isdisjoint(way.refused):
            self._acted["refuse"] += 1
            self.cut(direction.connection.opener.process, direction.connection.forth.target.process)
            return
        if way.shut:
            self._acted["partition"] += 1
            way.held.append((direction, lane, frame, blobs))
            return
        if way.loses and chance.percent(way.loses):
            self._acted["lose"] += 1
            way.has_lost = True
            return
        self._pass(direction, lane, frame, blobs)
        if way.doubles and chance.percent(way.doubles):
            self._acted["double"] += 1
            self._pass(direction, lane, frame, blobs)

    def _pass(self, direction: Direction, lane: int, frame: bytes, blobs: Sequence[bytes]) -> None:
        way = direction.way
        if way.extra_ns:
            self._acted["slow"] += 1
        at_ns = self._sim.now_ns + way.base_ns + way.extra_ns + (self._bits(16) * way.jitter_ns >> 16)
        if way.reorders and self._chance.percent(way.reorders):
            self._acted["reorder"] += 1
            at_ns += self._chance.below(4 * (way.base_ns + way.jitter_ns) + 1)
        else:
            at_ns = max(at_ns, way.last_ns[lane])
            way.last_ns[lane] = at_ns
        self._sim.push(at_ns, direction.take, direction.sources[lane], frame, blobs)


def _kinds_in(frame: bytes) -> set[bytes]:
    """The kinds of messages that a frame brings. It comes from a kernel: a bad one is a mistake of ours."""
    decoded = decode_frame(frame)
    return {decoded.names[letter.kind].encode() for letter in decoded.letters}
