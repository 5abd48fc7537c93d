"""The other processes, as one kernel knows them: the book, greetings, loss, and who watches whom.

The **book** says which process an actor lives in and which incarnation of it is current; the launcher keeps it.
A connection is greeted before mail goes out by it: HELLO says who we are and whom we expect, WELCOME that the
mailboxes exist, GOAWAY why not. Clients are in no book: a HELLO makes them known, until they say goodbye or are lost.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from zactor.actor import Down, Up
from zactor.cell import Cell, RemoteAsk
from zactor.errors import ProcessLost
from zactor.message import UNDECODABLE, Frame, Letter, Message, Ref, decoder
from zactor.peer import Peer

if TYPE_CHECKING:
    from zactor.kernel import Kernel

CLIENTS_MAX = 1000

EARLY_MAX = 1000
"""HELLOs kept until the first book comes, which others may have had before us: as many as a book has processes."""

_hello = decoder(tuple[str, str])
_down = decoder(tuple[str, bool])
_text = decoder(str)


class Inspect(Message[dict[str, Any]], wire="$inspect"):
    """Ask a kernel what `ps` shows. It answers at once, however full its mailboxes are."""


class Entry(msgspec.Struct, frozen=True):
    """A process in the book. `reachable` is False while it is being restarted; `gone` says why it never comes back."""

    incarnation: int
    reachable: bool
    gone: str | None = None


class Neighbours:
    """The other processes and the clients of one kernel."""

    def __init__(self, kernel: Kernel, run: str) -> None:
        self._kernel = kernel
        self._run = run
        self._nodes: dict[str, str] = {}
        self._entries: dict[str, Entry] = {}
        self._watches: dict[str, set[str]] = {}  # an actor elsewhere: who watches it here
        self._downs: set[tuple[str, str]] = set()  # (watcher, watched): told Down, not yet Up
        self._early: dict[str, tuple[str, Frame]] = {}  # HELLO of an incarnation that our book does not know yet
        self.peers: dict[str, Peer] = {}

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
        before, self._entries = self._entries, entries
        self._nodes = nodes
        for process, entry in entries.items():
            if process == self._kernel.process:
                continue
            was = before.get(process)
            had_left = was is not None and not was.reachable
            peer = self.peers.get(process)
            if peer is None:
                peer = self.peers[process] = self._peer(process, entry.incarnation)
            elif peer.incarnation != entry.incarnation:
                self.lost(process, f"{process} was replaced")
                peer.incarnation = entry.incarnation
            elif not entry.reachable:
                final = entry.gone is not None and peer.gone is None
                if final or not had_left:
                    self.lost(process, entry.gone or f"{process} has ended", final=final)
            peer.gone = entry.gone
            peer.room = 0
            if entry.reachable and (self._wanted(process) or peer.batch.letters or peer.frames):
                self.greet(process)
        for process, (source, frame) in list(self._early.items()):
            del self._early[process]
            self._on_hello(source, frame)

    def _peer(self, process: str, incarnation: int) -> Peer:
        return Peer(self._kernel.process, self._kernel.incarnation, process, incarnation)

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
        peer.handshake(self._kernel.world.send, "$hello", (self._run, peer.process))

    # --- greetings
    def handshake(self, source: str, peer: Peer | None, frame: Frame) -> bool:
        """Take a frame that greets, welcomes or refuses. Returns whether it was one, from somebody who may."""
        kind = frame.names[frame.letters[0].kind] if frame.letters[0].kind < len(frame.names) else ""
        if kind == "$hello":
            self._on_hello(source, frame)
        elif peer is None or peer.incarnation != frame.incarnation:
            return False
        elif kind == "$forgotten" and peer.state == "open" and peer.source == source:
            self.lost(peer.process, f"{peer.process} lost its connection to us")
        elif peer.state != "greeting":
            return False
        elif kind == "$welcome":
            peer.source = source
            self._on_welcome(peer)
        elif kind == "$goaway":
            self._on_goaway(peer, frame.letters[0])
        else:
            return False
        return True

    def _on_hello(self, source: str, frame: Frame) -> None:
        process = frame.process
        try:
            run, expected = _hello(frame.letters[0].body)
        except UNDECODABLE as problem:
            self._kernel.mailroom.stranger(source, "bad HELLO", str(problem))
            return
        is_client = process.startswith("@")
        peer = self.peers.get(process)
        own = self._kernel.process
        if run != self._run or expected != own:
            self._kernel.mailroom.stranger(source, "wrong HELLO", f"{process!r} looks for {expected!r} of run {run!r}")
            if is_client and len(self.peers) < CLIENTS_MAX:
                text = f"this is {own} of run {self._run}"
                self._peer(process, frame.incarnation).handshake(self._kernel.world.send, "$goaway", text)
            return
        if peer is None and is_client:
            peer = self._peer(process, frame.incarnation)
            if len(self.peers) >= CLIENTS_MAX:
                self._call_clients()
                self._kernel.mailroom.stranger(
                    source, "unknown process", f"{process!r}, and there is no room for more clients"
                )
                peer.handshake(self._kernel.world.send, "$goaway", "it has no room for more clients now; try again")
                return
            self.peers[process] = peer
        if peer is None or peer.incarnation < frame.incarnation:
            if process in self._entries or (not self._entries and len(self._early) < EARLY_MAX):
                self._early[process] = (source, frame)  # it was (re)started, and our book is not there yet
            else:
                self._kernel.mailroom.stranger(source, "unknown process", repr(process))
            return
        if peer.incarnation != frame.incarnation or (peer.source and peer.source != source and is_client):
            self._kernel.mailroom.stranger(source, "old incarnation", f"{process!r} {frame.incarnation}")
            return
        peer.source = source
        peer.received = 0
        peer.handshake(self._kernel.world.send, "$welcome", None)
        if is_client:
            peer.state = "open"
            self._kernel.mailroom.touch(peer)
        else:
            self.greet(process)  # acknowledgements, at least, will go back

    def call_again(self, process: str, incarnation: int) -> None:
        """A client that was cut off for a while, and forgotten, shall greet us again."""
        self._peer(process, incarnation).handshake(self._kernel.world.send, "$forgotten", None)

    def _call_clients(self) -> None:
        """Send something to each client: the world says which of them have gone without a goodbye."""
        for peer in list(self.peers.values()):
            if peer.process.startswith("@"):
                peer.handshake(self._kernel.world.send, "$welcome", None)

    def _on_welcome(self, peer: Peer) -> None:
        peer.state = "open"
        for name in self._watches:
            if self.process_of(name) == peer.process:
                self._kernel.mailroom.post_control(peer, "$watch", name, "", None)
        for cell in list(self._kernel.cells.values()):
            if cell.unlinked and peer.process in cell.unlinked:
                cell.unlinked.discard(peer.process)
                self._kernel.life.linked(cell)
        self._kernel.mailroom.touch(peer)

    def _on_goaway(self, peer: Peer, letter: Letter) -> None:
        try:
            because = _text(letter.body)
        except UNDECODABLE:
            because = "no reason was given"
        self.lost(peer.process, f"{peer.process} refused us: {because}")
        peer.state = "refused"
        peer.gone = f"refused: {because}"

    def lost(self, process: str, because: str, *, final: bool = False) -> None:
        """A process is gone, for ever if `final`: what waited for it hears so now."""
        peer = self.peers.get(process)
        kernel = self._kernel
        if peer is None or (peer.state == "closed" and not peer.source and not peer.outbox_messages and not final):
            return
        if process.startswith("@"):
            del self.peers[process]
            peer.gone = because  # refs to it may be kept
        peer.state = "closed"
        peer.source = ""
        paused, peer.paused = peer.paused, {}
        waiters, peer.waiters = peer.waiters, deque()
        for queue in (*paused.values(), waiters):
            for wait, target, mail in queue:
                kernel.dead_letter("process lost", mail, target.name)
                kernel.settle(wait, None, ProcessLost(because))
        dropped = peer.reset()
        if dropped:
            kernel.dead["process lost"] += dropped
        if not process.startswith("@"):  # clients come and go
            fields = {"peer": process, "because": because, "outbox": dropped}
            kernel.world.log("warning", "", "peer_lost", fields)
        for wait in [each for each in kernel.pending.values() if each.target is not None]:
            assert wait.target is not None
            if wait.target.peer is peer:
                kernel.settle(wait, None, ProcessLost(f"{wait.target.name}: {because}"))
        for number, task in list(kernel.serving.items()):
            if isinstance(task.mail.ask, RemoteAsk) and task.mail.ask.process == process:
                kernel.direct(task.cell, "cancel", number)
        for cell in kernel.cells.values():
            if cell.paused:
                cell.paused.discard(process)
        for name, watchers in self._watches.items():
            if self.process_of(name) == process:
                for watcher in sorted(watchers):
                    self.notice(watcher, Down(ref=Ref(name), reason=because, final=final))

    # --- watching
    def watch(self, cell: Cell, name: str) -> None:
        """An actor here watches another, wherever it lives."""
        target = self._kernel.cells.get(name)
        if target is not None:
            if target.watchers is None:
                target.watchers = {}
            target.watchers[cell.name] = None
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
        target = self._kernel.cells.get(name)
        self._downs.discard((cell.name, name))
        if target is not None and target.watchers is not None:
            target.watchers.pop(cell.name, None)
        watchers = self._watches.get(name)
        if watchers is not None:
            watchers.discard(cell.name)
            if not watchers:
                del self._watches[name]
                self._kernel.mailroom.control(name, "$unwatch", "", None)

    def notice(self, watcher: str, notice: Down | Up) -> None:
        """Tell a watcher here. `Up` only reaches one that was told `Down`."""
        cell = self._kernel.cells.get(watcher)
        if cell is None:
            return
        pair = (watcher, notice.ref.name)
        if isinstance(notice, Down):
            self._downs.add(pair)
        elif pair not in self._downs:
            return
        else:
            self._downs.discard(pair)
        self._kernel.life.notice(cell, notice)

    def notice_process(self, process: str, notice: Down | Up) -> None:
        """Tell another kernel, some of whose actors watch one of ours."""
        peer = self.peers.get(process)
        if peer is not None and peer.gone is None:
            kind, body = ("$down", (notice.reason, notice.final)) if isinstance(notice, Down) else ("$up", None)
            self._kernel.mailroom.post_control(peer, kind, "", notice.ref.name, body)

    def _on_watch(self, peer: Peer, target: str, sender: str, _letter: Letter) -> None:
        cell = self._kernel.cells.get(target)
        if cell is None:
            self._kernel.mailroom.post_control(peer, "$down", sender, target, ("there is no such actor", True))
            return
        if cell.watchers is None:
            cell.watchers = {}
        cell.watchers[peer.process] = None
        if cell.state == "ready":
            self._kernel.mailroom.post_control(peer, "$up", "", target, None)

    def _on_unwatch(self, peer: Peer, target: str, _sender: str, _letter: Letter) -> None:
        cell = self._kernel.cells.get(target)
        if cell is not None and cell.watchers is not None:
            cell.watchers.pop(peer.process, None)

    def _on_down(self, peer: Peer, _target: str, sender: str, letter: Letter) -> None:
        if self.process_of(sender) == peer.process:
            reason, final = _down(letter.body)
            for watcher in sorted(self._watches.get(sender, ())):
                self.notice(watcher, Down(ref=Ref(sender), reason=reason, final=final))

    def _on_up(self, peer: Peer, _target: str, sender: str, _letter: Letter) -> None:
        if self.process_of(sender) == peer.process:
            for watcher in sorted(self._watches.get(sender, ())):
                self.notice(watcher, Up(ref=Ref(sender)))

    def say_goodbye(self) -> None:
        """A client goes: those it talked to need not keep anything for it."""
        for peer in self.peers.values():
            if peer.state == "open":
                self._kernel.mailroom.post_control(peer, "$bye", "", "", None)
        self._kernel.mailroom.flush()

    def _on_bye(self, peer: Peer, _target: str, _sender: str, _letter: Letter) -> None:
        if peer.process.startswith("@"):
            self.lost(peer.process, "it said goodbye")
