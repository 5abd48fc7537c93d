"""The other processes, as one kernel knows them: the book, greetings, loss, goodbyes, and who watches whom.

The **book** says which process an actor lives in and which incarnation of it is current; the launcher keeps it.
A connection is greeted before mail goes out by it: HELLO says who we are and whom we expect, WELCOME that the
mailboxes exist, GOAWAY why not. Clients are in no book: a HELLO makes them known, until they say goodbye or are lost.
Loss makes a new session, which both sides agree on by the next HELLO: the higher number holds. BYE empties a
connection before it ends: each side says what it has sent, and goes when it has taken what the other did.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from zactor.actor import Down, Up
from zactor.cell import Cell, RemoteAsk, Wait
from zactor.errors import ActorStopped, ConnectionLost
from zactor.message import UNDECODABLE, Ref, decoder
from zactor.peer import Lane, Peer
from zactor.wire import BULK, CONTROL, MAIL, Batch, Frame, Letter, Route, frame, lane_of

if TYPE_CHECKING:
    from zactor.kernel import Kernel

CLIENTS_MAX = 1000

EARLY_MAX = 1000
"""HELLOs kept until the next book comes, which others may have had before us: as many as a book has processes."""

_hello = decoder(tuple[str, str, str, int, str])
_goaway = decoder(tuple[str, bool])
_down = decoder(tuple[str, bool])
_bye = decoder(tuple[int, int])
_welcome = decoder(tuple[str, int])


class Entry(msgspec.Struct, frozen=True):
    """A process in the book. `reachable` is False while it is being restarted; `gone` says why it never comes back."""

    incarnation: int
    reachable: bool
    gone: str | None = None


class Neighbours:
    """The other processes and the clients of one kernel."""

    def __init__(self, kernel: Kernel, run: str, key: str) -> None:
        self._kernel = kernel
        self._run = run
        self._key = key
        self._nodes: dict[str, str] = {}
        self._entries: dict[str, Entry] = {}
        self._watches: dict[str, set[str]] = {}  # an actor elsewhere: who watches it here
        self.watchers: dict[str, dict[str, None]] = {}  # an actor here: who watches it here, and in which processes
        self._downs: dict[tuple[str, str], bool] = {}  # (watcher, watched): told Down, for good or not, and not yet Up
        self._early: dict[str, tuple[str, Frame]] = {}  # HELLO of an incarnation that our book does not know yet
        self.leaving = False
        self._lives = 0  # of clients: one that was forgotten, and greets us again, begins another in its old session
        self.peers: dict[str, Peer] = {}
        self.sources: dict[str, tuple[Peer, Lane]] = {}  # the connections by which frames may come
        self.lost_messages: Counter[str] = Counter()  # at most so many, by process

    def controls(self) -> dict[str, Any]:
        """The letters between kernels that are about processes and watching."""
        return {
            "$watch": self._on_watch,
            "$unwatch": self._on_unwatch,
            "$down": self._on_down,
            "$up": self._on_up,
            "$bye": self._on_bye,
        }

    # --- the book
    def on_book(self, nodes: dict[str, str], entries: dict[str, Entry]) -> None:
        """The launcher's book: node -> process, and the state of each process."""
        for process in [name for name in self.peers if name not in entries and not name.startswith("@")]:
            self._removed(process)
        before, self._entries = self._entries, entries
        for name, process in self._nodes.items():
            if nodes.get(name) != process and process in self.peers:
                self.peers[process].left = True
        self._nodes = nodes
        self._kernel.heartbeat.start()
        for process, entry in entries.items():
            if process == self._kernel.process:
                if entry.incarnation > self._kernel.incarnation:
                    self._superseded(entry.incarnation)
                continue
            was = before.get(process)
            peer = self.peers.get(process)
            if peer is None:
                peer = self.peers[process] = Peer(process, entry.incarnation)
            elif peer.incarnation != entry.incarnation:
                self.lost(peer, f"{process} was replaced", again=False)
                peer.incarnation, peer.session = entry.incarnation, 1
            elif not entry.reachable:
                final = entry.gone is not None and (was is None or was.gone is None)
                if final or was is None or was.reachable:
                    self.lost(peer, entry.gone or f"{process} has ended", final=final, again=False)
            peer.gone = entry.gone
            if peer.state == "refused":  # by who did not have this book
                peer.state = "closed"
            peer.silent()
            if entry.reachable and (self._wanted(process) or not all(lane.empty() for lane in peer.lanes)):
                self.greet(process)
        early, self._early = self._early, {}
        for source, hello in early.values():
            self._on_hello(source, hello, is_late=True)

    def _removed(self, process: str) -> None:
        """A process is in the book no more: the topology has changed."""
        peer = self.peers.pop(process)
        because = f"{process} is no part of the topology any more"
        self.lost(peer, because, final=True)
        peer.gone = because  # refs to it may be kept

    def _superseded(self, incarnation: int) -> None:
        """Another incarnation of this process runs: what this one believes is no longer so."""
        kernel = self._kernel
        kernel.life.end(None, f"incarnation {incarnation} of {kernel.process} runs; this is {kernel.incarnation}")

    def _wanted(self, process: str) -> bool:
        if any(process in cell.unlinked for cell in self._kernel.cells.values() if cell.unlinked):
            return True
        return any(self.process_of(name) == process for name in self._watches)

    def process_of(self, name: str) -> str:
        """The process in which an actor lives, or "" when the book has none."""
        if name in self._kernel.cells:
            return self._kernel.process
        if name.startswith("@"):
            return name.partition("/")[0]
        while name not in self._nodes:
            name, _, _ = name.rpartition("/")
            if not name:
                return ""
        return self._nodes[name]

    def greet(self, process: str) -> bool:
        """Say HELLO if nothing was said yet. Returns whether the connection is open."""
        peer = self.peers.get(process)
        if peer is None:
            return False
        if peer.state == "closed":
            entry = self._entries.get(process)
            if entry is not None and entry.reachable:
                peer.state = "greeting"
                self.say_hello(peer)
        return peer.state == "open"

    def say_hello(self, peer: Peer) -> None:
        """Say who we are and whom we expect. Saying it twice does no harm."""
        kernel = self._kernel
        who = (self._run, self._key, kernel.process, kernel.incarnation, peer.process)
        self._say(peer.process, peer.session, "$hello", who)

    def _say(self, to: str, session: int, kind: str, body: Any) -> None:
        """Send a greeting at once, past outbox and window; `to` is a process, or a source for an answer."""
        batch = Batch()
        batch.add(kind, "", "", 0, 0, 0, 0, body)
        self._kernel.world.send(to, CONTROL, frame(session, 0, (0, 0, 0), batch.close()), [])

    # --- greetings
    def handshake(self, source: str, frame: Frame) -> bool:
        """Take a frame that greets, welcomes or refuses. Returns whether it came from somebody who may."""
        kind = frame.names[frame.letters[0].kind] if frame.letters[0].kind < len(frame.names) else ""
        if kind == "$hello":
            return self._on_hello(source, frame)
        route = Route.parse(source)
        peer = None if route is None else self.peers.get(route.process)
        if route is not None and peer is not None and (CONTROL, peer.incarnation) == (route.lane, route.incarnation):
            is_answer = frame.session == peer.session and peer.state == "greeting"
            if kind == "$forgotten" and peer.state == "open" and (source in peer.sources or not route.token):
                self.lost(peer, f"{peer.process} lost its connection to us")
                return True
            if kind == "$welcome" and is_answer and self._on_welcome(source, peer, frame.letters[0]):
                return True
            if kind == "$goaway" and is_answer and not route.token:  # it came by the connection that we opened
                self._on_goaway(peer, frame.letters[0])
                return True
            life = self._life_in(frame.letters[0]) if kind == "$welcome" else None
            if life is not None and source in peer.sources:  # to the second of two HELLOs
                if life != peer.life and peer.state == "open":
                    self.lost(peer, f"{peer.process} had lost its connection to us")
                return True
            is_meant = not route.token if kind == "$goaway" else life is not None
            if is_meant and frame.session < peer.session:
                return True  # to a HELLO that is ours no more
        self._kernel.mailroom.stranger(source, "frame out of place", f"{kind}, which nobody awaits")
        return False

    def _on_hello(self, source: str, frame: Frame, *, is_late: bool = False) -> bool:
        refused = self._kernel.mailroom.stranger
        try:
            run, key, process, incarnation, expected = _hello(frame.letters[0].body)
        except UNDECODABLE as problem:
            refused(source, "bad HELLO", str(problem))
            return False
        route = Route.parse(source)
        if route is None or (process, incarnation, CONTROL) != route[:3] or not route.token:
            refused(source, "false name", f"calls itself {process!r} {incarnation}")
            return False
        own = self._kernel.process
        peer = self.peers.get(process)
        if self.leaving and (peer is None or not _remains(peer)):
            self._refuse(source, frame, f"{own} stops")
            return False
        if run != self._run or key != self._key or expected != own:
            refused(source, "wrong HELLO", f"{process!r} looks for {expected!r} of run {run!r}")
            what = "another key than" if run == self._run and expected == own else f"{expected!r} of run {run!r}, not"
            self._refuse(source, frame, f"this is {own} of run {self._run}; the HELLO was for {what} it")
            return False
        if peer is None and process.startswith("@"):
            peer = self._new_client(source, frame, process, incarnation)
            if peer is None:
                return False
        if peer is None or peer.incarnation < incarnation:
            if process in self._entries or (not is_late and len(self._early) < EARLY_MAX):
                self._early[process] = (source, frame)  # it was (re)started or added, and our book is not there yet
                return True
            refused(source, "unknown process", repr(process))
            self._refuse(source, frame, f"{process} is not in the book of {own}")
            return False
        if peer.incarnation != incarnation:
            refused(source, "old incarnation", f"{process!r} {incarnation}")
            self._refuse(source, frame, f"incarnation {peer.incarnation} of {process} runs", superseded=True)
            return False
        return self._take_hello(source, frame, peer)

    def _new_client(self, source: str, frame: Frame, process: str, incarnation: int) -> Peer | None:
        if len(self.peers) >= CLIENTS_MAX:
            self._kernel.mailroom.stranger(
                source, "unknown process", f"{process!r}, and there is no room for more clients"
            )
            self._refuse(source, frame, "it has no room for more clients now; try again")
            return None
        peer = self.peers[process] = Peer(process, incarnation)
        peer.session = frame.session
        self._lives += 1
        peer.life = self._lives
        return peer

    def _take_hello(self, source: str, frame: Frame, peer: Peer) -> bool:
        """HELLO of somebody known: agree on the session, and welcome it."""
        if frame.session < peer.session and not peer.is_client:
            if peer.state == "closed":
                self.greet(peer.process)
            else:
                self.say_hello(peer)  # ours is the newer session
            return True
        if frame.session > peer.session:
            if peer.welcomed or peer.state == "open":
                self.lost(peer, f"{peer.process} opened a new connection", again=False)
                if peer.is_client:
                    self.peers[peer.process] = peer
                    peer.gone = None
            peer.session = frame.session
            if peer.state == "greeting":  # by a HELLO of the session before: it is said anew
                peer.state = "closed"
        elif peer.welcomed and source not in peer.sources:
            self._kernel.mailroom.stranger(source, "false name", f"{peer.process!r} has another connection")
            self._refuse(source, frame, f"{peer.process} has another connection")
            return False
        peer.welcomed = True
        peer.heard_ns = self._kernel.world.now_ns()
        self._introduce(source, peer, CONTROL)
        to = source if peer.is_client else peer.process
        self._say(to, peer.session, "$welcome", (self._key, peer.life))
        if peer.is_client:
            peer.state = "open"
            self._kernel.mailroom.touch(peer)
        else:
            self.greet(peer.process)  # acknowledgements, at least, will go back
        return True

    def _refuse(self, source: str, hello: Frame, because: str, *, superseded: bool = False) -> None:
        """Send GOAWAY to whoever said that HELLO, by the connection that it came by."""
        self._say(source, hello.session, "$goaway", (because, superseded))

    def introduce(self, source: str) -> tuple[Peer, Lane] | None:
        """A connection that was not heard of: another lane of somebody that was welcomed, or nobody's."""
        route = Route.parse(source)
        peer = None if route is None else self.peers.get(route.process)
        if route is None or peer is None or str(route._replace(lane=CONTROL)) not in peer.sources:
            return None
        return self._introduce(source, peer, route.lane)

    def _introduce(self, source: str, peer: Peer, lane: int) -> tuple[Peer, Lane]:
        peer.sources.add(source)
        entry = self.sources[source] = (peer, peer.lanes[lane])
        self.writable(peer.process)
        return entry

    def writable(self, process: str) -> None:
        """A connection has room again, or exists now."""
        peer = self.peers.get(process)
        if peer is not None and peer.state == "open":
            self._kernel.mailroom.touch(peer)

    def disconnected(self, source: str, because: str) -> None:
        """A connection by which frames came has ended."""
        entry = self.sources.pop(source, None)
        if entry is not None and source in entry[0].sources:
            self.lost(entry[0], because)

    def call_again(self, source: str) -> None:
        """A client that was cut off for a while, and forgotten, shall greet us again."""
        self._say(source, 0, "$forgotten", None)

    def _life_in(self, letter: Letter) -> int | None:
        """Which of the lives of this session a WELCOME is of, or None if it does not show our key."""
        try:
            key, life = _welcome(letter.body)
        except UNDECODABLE:
            return None
        return life if key == self._key else None

    def _on_welcome(self, source: str, peer: Peer, letter: Letter) -> bool:
        life = self._life_in(letter)
        if life is None:
            return False
        peer.life = life
        peer.state = "open"
        peer.welcomed = True
        peer.heard_ns = self._kernel.world.now_ns()
        self._introduce(source, peer, CONTROL)
        if self._kernel.process.startswith("@"):  # answered by the connections that it opens: all of them now
            peer.acknowledge(self._kernel.world.send, MAIL)
            peer.acknowledge(self._kernel.world.send, BULK)
        for name in self._watches:
            if self.process_of(name) == peer.process:
                self._kernel.mailroom.post_control(peer, "$watch", name, "", None)
        for cell in list(self._kernel.cells.values()):
            if cell.unlinked and peer.process in cell.unlinked:
                cell.unlinked.discard(peer.process)
                self._kernel.life.linked(cell)
        self._kernel.mailroom.touch(peer)
        return True

    def _on_goaway(self, peer: Peer, letter: Letter) -> None:
        try:
            because, superseded = _goaway(letter.body)
        except UNDECODABLE:
            because, superseded = "no reason was given", False
        if superseded:
            self._kernel.life.end(None, f"{peer.process} says: {because}; this is {self._kernel.incarnation}")
        self.lost(peer, f"{peer.process} refused us: {because}", again=False)
        peer.state = "refused"
        peer.gone = f"refused: {because}"

    # --- loss
    def lost(self, peer: Peer, because: str, *, final: bool = False, again: bool = True) -> None:
        """A connection is gone, for ever if `final`: what waited for it hears so now, and a new session begins."""
        if peer.state == "closed" and not (peer.welcomed or peer.outbox_messages or final):
            return
        said_bye = peer.bye and peer.bye_due is not None
        process, kernel = peer.process, self._kernel
        lanes, asks = peer.lanes, self._asks_of(peer)
        waiting, under_way = self._forget(peer, "peer lost", ConnectionLost(because, "not sent"))
        if under_way and not said_bye:
            self.lost_messages[process] += under_way
        if not process.startswith("@"):  # clients come and go
            fields = {"peer": process, "because": because, "outbox": waiting, "lost_at_most": under_way}
            kernel.world.log("warning", "", "peer_lost", fields)
        for wait in asks:
            assert wait.target is not None
            sent = "sent" if wait.id <= lanes[lane_of(wait.message)].asked else "not sent"
            kernel.settle(wait, None, ConnectionLost(f"{wait.target.name}: {because}", sent))
        self._end_service(process)
        self._tell_watchers(process, because, final=final)
        kernel.world.disconnect(process)
        if again and not final:
            self.greet(process)

    def mend(self, process: str, because: str) -> None:
        """What was said to a process, or by it, was lost on the way: nothing that follows it is to arrive."""
        peer = self.peers.get(process)
        if peer is not None:  # in a new session the other side greets us at once, too
            self.lost(peer, because)

    def _asks_of(self, peer: Peer) -> list[Wait]:
        """What waits for an answer from there."""
        pending = self._kernel.pending.values()
        return [wait for wait in pending if wait.target is not None and wait.target.peer is peer]

    def _tell_watchers(self, process: str, because: str, *, final: bool) -> None:
        for name, watchers in self._watches.items():
            if self.process_of(name) == process:
                for watcher in sorted(watchers):
                    self.notice(watcher, Down(ref=Ref(name), reason=because, final=final))

    def _forget(self, peer: Peer, reason: str, error: ActorStopped | ConnectionLost) -> tuple[int, int]:
        """End a session. Returns how many messages had not left, and how many were under way."""
        kernel = self._kernel
        if peer.process.startswith("@"):
            self.peers.pop(peer.process, None)
            peer.gone = str(error)  # refs to it may be kept
        for source in peer.sources:
            self.sources.pop(source, None)
        for watchers in self.watchers.values():
            watchers.pop(peer.process, None)  # it says so again when it is back
        peer.state = "closed"
        peer.session += 1
        self._turn_away(peer, reason, error)
        waiting, under_way = peer.reset()
        if waiting:
            kernel.dead[reason] += waiting
        return waiting, under_way

    def _turn_away(self, peer: Peer, reason: str, error: ActorStopped | ConnectionLost) -> None:
        """Those who wait for room hear that there will be none."""
        queues = [*peer.paused.values(), *(lane.waiters for lane in peer.lanes)]
        peer.paused = {}
        for queue in queues:
            while queue:
                wait, target, mail = queue.popleft()
                self._kernel.dead_letter(reason, mail, target.name)
                self._kernel.settle(wait, None, error)

    def _end_service(self, process: str) -> None:
        """Nobody there waits for an answer or for room any more."""
        kernel = self._kernel
        for number, task in list(kernel.serving.items()):
            if isinstance(task.mail.ask, RemoteAsk) and task.mail.ask.process == process:
                kernel.direct(task.cell, "cancel", number)
        for cell in kernel.cells.values():
            if cell.paused:
                cell.paused.discard(process)

    # --- goodbye
    def leave(self) -> None:
        """Say BYE to everybody, once what waits for them has left. `left` says when it is done."""
        self.leaving = True
        for peer in list(self.peers.values()):
            peer.silent()
            if peer.state == "open":
                self._kernel.mailroom.touch(peer)
            elif not _remains(peer):
                self._forget(peer, "stopped", ActorStopped(f"{self._kernel.process} stops"))

    def give_up(self) -> None:
        """Who has not answered a greeting by now will not: what waits for it is a dead letter."""
        for peer in list(self.peers.values()):
            if peer.state == "greeting":
                self._forget(peer, "stopped", ActorStopped(f"{self._kernel.process} stops"))

    def left(self) -> bool:
        """Whether nothing is on its way from here or to here any more."""
        return not any(map(_remains, self.peers.values()))

    def part(self, peer: Peer) -> None:
        """One of us stops: say BYE, when it is time, and go when everything has come."""
        if peer.state != "open":
            return
        _, mail, bulk = peer.lanes
        kernel = self._kernel
        if not peer.bye and mail.empty() and bulk.empty():
            peer.bye = True
            peer.lanes[CONTROL].post("$bye", "", "", (0, 0, 0, kernel.hlc), (mail.sequence, bulk.sequence))
            kernel.shipped += peer.flush(kernel.ship)
        if peer.parted():
            stops = f"{peer.process} has stopped"
            for wait in self._asks_of(peer):
                kernel.settle(wait, None, ActorStopped(stops))
            self._forget(peer, "stopped", ActorStopped(stops))
            peer.gone = stops  # until the next book: nobody there answers a HELLO
            self._end_service(peer.process)
            self._tell_watchers(peer.process, stops, final=False)

    def _on_bye(self, peer: Peer, _target: str, _sender: str, letter: Letter) -> None:
        peer.bye_due = _bye(letter.body)
        peer.silent()
        self._turn_away(peer, "stopped", ActorStopped(f"{peer.process} stops"))
        self._kernel.mailroom.touch(peer)

    # --- watching
    def watch(self, cell: Cell, name: str) -> None:
        """An actor here watches another, wherever it lives."""
        if self._is_here(name):
            self.watchers.setdefault(name, {})[cell.name] = None
            if name not in self._kernel.cells:
                self.notice(cell.name, Down(ref=Ref(name), reason=f"{name} is not running", final=True))
        elif self.process_of(name) in ("", self._kernel.process):
            self.notice(cell.name, Down(ref=Ref(name), reason="there is no such actor", final=True))
        else:
            self._watches.setdefault(name, set()).add(cell.name)
            peer = self.peers.get(self.process_of(name))
            entry = self._entries.get(self.process_of(name))
            if peer is not None and peer.state == "open":
                self._kernel.mailroom.post_control(peer, "$watch", name, cell.name, None)
            elif entry is None or not entry.reachable:
                because = (entry and entry.gone) or f"{self.process_of(name)} is not running"
                self.notice(cell.name, Down(ref=Ref(name), reason=because, final=bool(entry and entry.gone)))
            else:
                self.greet(self.process_of(name))

    def unwatch(self, cell: Cell, name: str) -> None:
        """It does not any more."""
        self._downs.pop((cell.name, name), None)
        self.watchers.get(name, {}).pop(cell.name, None)
        watchers = self._watches.get(name)
        if watchers is not None:
            watchers.discard(cell.name)
            if not watchers:
                del self._watches[name]
                self._kernel.mailroom.control(name, "$unwatch", "", None)

    def _is_here(self, name: str) -> bool:
        """Whether an actor lives in this process, or is a node of it that was stopped and may come again."""
        return name in self._kernel.cells or self._nodes.get(name) == self._kernel.process

    def notify(self, name: str, notice: Down | Up) -> None:
        """Tell all who watch an actor of this process."""
        for watcher in list(self.watchers.get(name, ())):
            if watcher in self._kernel.cells:
                self.notice(watcher, notice)
            else:
                self._notice_process(watcher, notice)

    def unwatched(self, name: str) -> None:
        """An actor of this process has stopped. Who watches a node hears when it is started again."""
        if name not in self._nodes:
            self.watchers.pop(name, None)

    def notice(self, watcher: str, notice: Down | Up) -> None:
        """Tell a watcher here. `Up` only reaches one that was told `Down`, and `Down` again only if it is for good."""
        cell = self._kernel.cells.get(watcher)
        if cell is None:
            return
        pair = (watcher, notice.ref.name)
        if isinstance(notice, Down):
            if self._downs.get(pair) in (True, notice.final):
                return
            self._downs[pair] = notice.final
        elif self._downs.pop(pair, None) is None:
            return
        self._kernel.life.notice(cell, notice)

    def _notice_process(self, process: str, notice: Down | Up) -> None:
        peer = self.peers.get(process)
        if peer is not None and peer.gone is None:
            kind, body = ("$down", (notice.reason, notice.final)) if isinstance(notice, Down) else ("$up", None)
            self._kernel.mailroom.post_control(peer, kind, "", notice.ref.name, body)

    def _on_watch(self, peer: Peer, target: str, sender: str, _letter: Letter) -> None:
        if not self._is_here(target):
            self._kernel.mailroom.post_control(peer, "$down", sender, target, ("there is no such actor", True))
            return
        self.watchers.setdefault(target, {})[peer.process] = None
        cell = self._kernel.cells.get(target)
        if cell is None:
            self._kernel.mailroom.post_control(peer, "$down", sender, target, (f"{target} is not running", True))
        elif cell.state == "ready":
            self._kernel.mailroom.post_control(peer, "$up", "", target, None)

    def _on_unwatch(self, peer: Peer, target: str, _sender: str, _letter: Letter) -> None:
        self.watchers.get(target, {}).pop(peer.process, None)

    def _on_down(self, peer: Peer, _target: str, sender: str, letter: Letter) -> None:
        if self.process_of(sender) == peer.process:
            reason, final = _down(letter.body)
            for watcher in sorted(self._watches.get(sender, ())):
                self.notice(watcher, Down(ref=Ref(sender), reason=reason, final=final))

    def _on_up(self, peer: Peer, _target: str, sender: str, _letter: Letter) -> None:
        if self.process_of(sender) == peer.process:
            for watcher in sorted(self._watches.get(sender, ())):
                self.notice(watcher, Up(ref=Ref(sender)))


def _remains(peer: Peer) -> bool:
    """Whether a goodbye to it is due: it was greeted, and there is or was something to say."""
    return peer.state == "open" or (peer.state == "greeting" and not all(lane.empty() for lane in peer.lanes))
