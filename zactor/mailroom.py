"""Where mail comes in and goes out: local delivery, frames, other processes, and the book.

The **book** says which process an actor lives in and which incarnation of it is current; the launcher keeps
it. Letters whose kind begins with `$` are the kernels' own: handshake, answers, flow control, watching, probes.
Nothing that comes in is trusted: what does not decode, or is out of place, is counted with its source and dropped.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from zactor import hlc
from zactor.actor import Down, Up
from zactor.cell import Cell, Mail, RemoteAsk, Wait, chain_of
from zactor.errors import (
    ActorFailed,
    ActorStopped,
    AskCycle,
    Failure,
    Overloaded,
    ProcessLost,
    Refused,
    Unhandled,
)
from zactor.message import (
    CHAIN_LENGTH_MAX,
    NAME_LENGTH_MAX,
    PROTOCOL_VERSION,
    Chain,
    Frame,
    Letter,
    Message,
    Ref,
    decode_frame,
    decoder,
    format_id,
)
from zactor.peer import Peer

if TYPE_CHECKING:
    from zactor.kernel import Kernel

MAILBOX_BYTES = 64 << 20
"""Mail from other processes that one mailbox holds before it pauses them."""

MAILBOX_BYTES_MAX = 4 * MAILBOX_BYTES
"""With what was on its way then: a window and an outbox, each with one largest message above it, are 40 MiB a
process. This has room for four such processes at once; beyond it mail is lost, and counted."""

CLIENTS_MAX = 1000
EARLY_MAX = 1000
"""HELLOs kept until the first book comes, which others may have had before us: as many as a book has processes."""

LOUD_STRANGERS = 10

UNDECODABLE = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)

_hello = decoder(tuple[str, str])
_error = decoder(tuple[str, str, str])
_chain = decoder(Chain)
_break = decoder(tuple[int, str])
_down = decoder(tuple[str, bool])
_text = decoder(str)


class Inspect(Message[dict[str, Any]], wire="$inspect"):
    """Ask a kernel what `ps` shows. It answers at once, however full its mailboxes are."""


class Entry(msgspec.Struct, frozen=True):
    """A process in the book. `reachable` is False while it is being restarted; `gone` says why it never comes back."""

    incarnation: int
    reachable: bool
    gone: str | None = None


class Mailroom:
    """The post of one kernel."""

    def __init__(self, kernel: Kernel, run: str) -> None:
        self._kernel = kernel
        self._run = run
        self._nodes: dict[str, str] = {}
        self._entries: dict[str, Entry] = {}
        self._watches: dict[str, set[str]] = {}  # an actor elsewhere: who watches it here
        self._downs: set[tuple[str, str]] = set()  # (watcher, watched): told Down, not yet Up
        self._early: dict[str, tuple[str, Frame]] = {}  # HELLO of an incarnation that our book does not know yet
        self._answers: dict[type, Callable[[Any], Any]] = {}
        self.peers: dict[str, Peer] = {}
        self.dirty: list[Peer] = []
        self.strangers: Counter[str] = Counter()
        self.stamps_ahead: Counter[str] = Counter()
        self._controls: dict[str, Callable[[Peer, str, str, Letter], None]] = {
            "$reply": self._on_reply,
            "$error": self._on_error,
            "$pause": self._on_pause,
            "$resume": self._on_resume,
            "$watch": self._on_watch,
            "$unwatch": self._on_unwatch,
            "$down": self._on_down,
            "$up": self._on_up,
            "$probe": self._on_probe,
            "$break": self._on_break,
            "$cancel": self._on_cancel,
            "$inspect": self._on_inspect,
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
                peer.handshake(self._kernel.world.send, "$hello", (self._run, process))
        return peer.state == "open"

    # --- out
    def deliver(self, target: Ref[Any], mail: Mail, wait: Wait | None) -> str | None:
        """Put mail into a mailbox here or an outbox. Returns why there is no room, or None. Raises `TooLarge`."""
        kernel = self._kernel
        cell = target.cell
        if cell is None or cell.state == "stopped":
            cell = target.cell = kernel.cells.get(target.name)
        if wait is not None and wait.depth > CHAIN_LENGTH_MAX:
            kernel.dead_letter("cycle", mail, target.name, AskCycle(f"asks nested {wait.depth} deep: {target.name}"))
            return None
        if cell is None:
            return self._post(target, mail, wait)
        if wait is not None and cell.held:
            ring = kernel.cycles.closes(cell, wait)
            if ring is not None:
                kernel.dead_letter("cycle", mail, cell.name, AskCycle(ring))
                return None
        if len(cell.mailbox) >= cell.capacity or cell.waiters:  # nobody overtakes those who wait for room
            return f"the mailbox of {cell.name} holds {len(cell.mailbox)} messages already"
        kernel.push(cell, mail)
        return None

    def _post(self, target: Ref[Any], mail: Mail, wait: Wait | None) -> str | None:
        kernel = self._kernel
        peer = target.peer or self._find_peer(target)
        if peer is None:
            kernel.dead_letter("unknown", mail, target.name, ActorStopped(f"there is no actor {target.name}"))
            return None
        if peer.gone is not None or peer.state == "refused":
            kernel.dead_letter("process lost", mail, target.name, ProcessLost(f"{target.name}: {peer.gone}"))
            return None
        if target.name in peer.paused:
            return f"the mailbox of {target.name} is full"
        if peer.waiters or peer.full():
            return f"the outbox for process {peer.process} is full"
        asked: tuple[int, Chain] | None = None
        if wait is not None:
            asked = (max(0, wait.deadline_ns - kernel.world.now_ns()), chain_of(wait))
        try:
            peer.post(
                mail.message.wire,
                target.name,
                mail.sender.name,
                (mail.id, mail.cause, mail.root, mail.hlc),
                mail.message,
                asked,
                is_message=True,
            )
        except Exception as problem:  # it is too large, or holds what cannot be encoded
            kernel.unsent += 1
            if wait is not None:
                kernel.waits.forget(wait)
            if kernel.tap is not None:
                kernel.tap.input(mail.sender, "unsent", mail.id, problem)
            raise
        if peer.frames:  # a whole frame is ready: let the other side begin with it
            kernel.shipped += peer.flush(kernel.world.send, whole_frames=True)
        if not peer.dirty:
            self._touch(peer)
        return None

    def _find_peer(self, target: Ref[Any]) -> Peer | None:
        if len(target.name) <= NAME_LENGTH_MAX:  # nobody has a longer one, and a frame with it would be refused
            target.peer = self.peers.get(self.process_of(target.name))
        peer: Peer | None = target.peer
        return peer

    def _touch(self, peer: Peer) -> None:
        if peer.state == "closed":
            self.greet(peer.process)
        if not peer.dirty:
            peer.dirty = True
            self.dirty.append(peer)
            if not self._kernel.armed:
                self._kernel.arm()

    def control(self, target: str, kind: str, sender: str, body: Any, number: int = 0) -> None:
        """Send another kernel a letter of ours."""
        peer = self.peers.get(self.process_of(target))
        if peer is not None and peer.gone is None:
            self._control(peer, kind, target, sender, body, number)

    def _control(self, peer: Peer, kind: str, target: str, sender: str, body: Any, number: int = 0) -> None:
        peer.post(kind, target, sender, (number, 0, 0, self._kernel.hlc), body)
        self._touch(peer)

    def answer(self, cell: Cell | None, ask: RemoteAsk, value: Any, error: BaseException | None) -> None:
        """Send an answer back; it never queues behind a mailbox."""
        peer = self.peers.get(ask.process)
        if peer is None or peer.gone is not None:
            return
        kernel = self._kernel
        numbers = (ask.id, kernel.current.id, kernel.current.root, kernel.hlc)
        sender = "" if cell is None else cell.name
        if error is None:
            try:
                peer.post("$reply", "", sender, numbers, value)
            except Exception as problem:  # it is too large, or holds what cannot be encoded
                error = ActorFailed(f"{sender}: its answer cannot be sent: {problem}")
        if error is not None:
            known = error if isinstance(error, Failure) else ActorFailed(f"{type(error).__name__}: {error}")
            body = (known.wire, str(known)[:10_000], known.detail[:100_000])
            peer.post("$error", "", sender, numbers, body)
        self._touch(peer)

    def outbox_messages(self) -> int:
        """Messages that have not left yet, and those of senders that wait for room."""
        return sum(
            peer.outbox_messages + len(peer.waiters) + sum(map(len, peer.paused.values()))
            for peer in self.peers.values()
        )

    def flush(self) -> None:
        """What this pass sent leaves."""
        if not self.dirty:
            return
        dirty, self.dirty = self.dirty, []
        for peer in dirty:
            peer.dirty = False
            self._kernel.shipped += peer.flush(self._kernel.world.send)
            if peer.waiters and not peer.full():
                waiters, peer.waiters = peer.waiters, deque()
                self._release(waiters)

    def writable(self, process: str) -> None:
        """A connection has room again, or exists now."""
        peer = self.peers.get(process)
        if peer is None:
            return
        if peer.state == "greeting":
            peer.handshake(self._kernel.world.send, "$hello", (self._run, process))
        self._touch(peer)

    # --- room
    def queue_up(self, target: Ref[Any], mail: Mail, wait: Wait) -> None:
        """Mail of a `send` that found no room waits for it here; `deliver` has just said why."""
        cell = target.cell
        if cell is not None:
            if cell.waiters is None:
                cell.waiters = deque()
            cell.limit = 0  # while somebody waits, the fast way of `tell` is closed
            queue = cell.waiters
        else:
            peer = target.peer
            queue = peer.paused.get(target.name, peer.waiters)
            peer.room = 0
        wait.value = queue
        queue.append((wait, target, mail))

    def give_up(self, wait: Wait) -> None:
        """A `send` that found no room in time."""
        queue = wait.value
        for entry in queue:
            if entry[0] is wait:
                queue.remove(entry)
                self._kernel.dead_letter("full", entry[2], entry[1].name)
                self._kernel.settle(wait, None, Overloaded(f"{entry[1].name} had no room in time"))
                return

    def resume(self, cell: Cell) -> None:
        """A mailbox has room again: first for those who wait here, then for those elsewhere."""
        waiters = cell.waiters
        while waiters and len(cell.mailbox) < cell.capacity:
            wait, _, mail = waiters.popleft()
            self._kernel.push(cell, mail)
            self._kernel.settle(wait, None, None)
        if waiters is not None and not waiters:
            cell.waiters = None
            cell.limit = cell.capacity
        if cell.paused and len(cell.mailbox) <= cell.capacity >> 1 and cell.bytes <= MAILBOX_BYTES >> 1:
            for process in sorted(cell.paused):
                peer = self.peers.get(process)
                if peer is not None:
                    self._control(peer, "$resume", cell.name, "", None)
            cell.paused = None

    def _release(self, waiters: deque[Any]) -> None:
        for wait, target, mail in waiters:
            if wait.id not in self._kernel.pending:
                self._kernel.dead_letter("stopped", mail, target.name)
            elif self.deliver(target, mail, None) is None:
                self._kernel.settle(wait, None, None)
            else:
                self.queue_up(target, mail, wait)

    # --- in
    def receive(self, source: str, data: bytes) -> None:
        """A frame came. Bad ones are counted with their source and dropped; a bad letter costs no other."""
        try:
            frame = decode_frame(data)
        except UNDECODABLE as problem:
            self.stranger(source, "undecodable frame", str(problem))
            return
        if frame.version != PROTOCOL_VERSION:
            self.stranger(source, "wrong version", f"speaks version {frame.version}, this is {PROTOCOL_VERSION}")
            return
        peer = self.peers.get(frame.process)
        if frame.sequence == 0 and frame.letters:
            if source != f"{frame.process}#{frame.incarnation}":
                self.stranger(source, "false name", f"calls itself {frame.process!r} {frame.incarnation}")
                return
            if self._handshake(source, peer, frame):
                return
        if peer is None or peer.source != source or peer.incarnation != frame.incarnation:
            self.stranger(source, "not introduced", f"calls itself {frame.process!r}, without a HELLO")
            if peer is None and frame.process[:1] == "@" and source == f"{frame.process}#{frame.incarnation}":
                # A client that was cut off for a while, and forgotten: it shall greet us again.
                self._peer(frame.process, frame.incarnation).handshake(self._kernel.world.send, "$forgotten", None)
            return
        if not peer.took(frame.sequence, len(data)):
            self.stranger(source, "frame out of place", f"sequence {frame.sequence} does not follow")
            return
        if peer.acknowledge(frame.acknowledged):
            self._touch(peer)
        if frame.sequence:
            self._take(peer, frame, len(data))
            if peer.owed_enough():
                self._touch(peer)

    def _take(self, peer: Peer, frame: Frame, size: int) -> None:
        names, letters = frame.names, frame.letters
        count = len(names)
        size //= len(letters) or 1
        self._merge_stamp(peer, max([letter.hlc for letter in letters], default=0))
        taken = 0
        while taken < len(letters):
            letter = letters[taken]
            taken += 1
            if letter.kind >= count or letter.target >= count or letter.sender >= count:
                self.stranger(peer.source, "bad letter", "an index beyond the names of its frame")
                continue
            kind = names[letter.kind]
            if kind[:1] != "$":
                self._take_message(peer, kind, names[letter.target], names[letter.sender], letter, size)
                if taken < len(letters) and letters[taken].kind == letter.kind:
                    taken = self._take_alike(letters, taken, names, size)
                continue
            control = self._controls.get(kind)
            if control is None:
                self.stranger(peer.source, "unknown control", kind)
                continue
            try:
                control(peer, names[letter.target], names[letter.sender], letter)
            except UNDECODABLE as problem:
                self.stranger(peer.source, "bad control", f"{kind}: {problem}")

    def _take_alike(self, letters: list[Letter], taken: int, names: list[str], size: int) -> int:
        """Take the letters that bring the same to the same actor as the one before: most of a full frame.

        It ends where something else has to be looked at. Returns how many letters of the frame are taken then.
        Across processes this is what a message costs its receiver, so it is written out.
        """
        kernel = self._kernel
        before = letters[taken - 1]
        kind, target, sender = before.kind, before.target, before.sender
        cell = kernel.cells.get(names[target])
        handler = None if cell is None else cell.kind._wires.get(names[kind])
        if cell is None or handler is None or not (cell.queued and cell.mailbox):
            return taken
        if cell.bytes + size * len(letters) >= MAILBOX_BYTES:
            return taken
        decode, mailbox, name = handler.decode, cell.mailbox, names[sender]
        for index in range(taken, min(len(letters), taken + cell.capacity - len(mailbox))):
            letter = letters[index]
            if letter.target != target or letter.kind != kind or letter.sender != sender or letter.ask is not None:
                break
            try:
                message = decode(letter.body)
            except Exception:  # it is looked at again, where there is somebody to tell
                break
            mailbox.append(Mail(message, letter.id, letter.cause, letter.root, letter.hlc, name, None, size))
            kernel.received += 1
            cell.bytes += size
            taken += 1
        return taken

    def _merge_stamp(self, peer: Peer, stamp: int) -> None:
        kernel = self._kernel
        if stamp <= kernel.hlc:
            return
        merged = hlc.merge(kernel.hlc, stamp, kernel.world.wall_ns())
        if merged == kernel.hlc:
            self.stamps_ahead[peer.process] += 1
        kernel.hlc = merged

    def _take_message(self, peer: Peer, kind: str, target: str, sender: str, letter: Letter, size: int) -> None:
        kernel = self._kernel
        kernel.received += 1
        asked = letter.ask
        ask: RemoteAsk | None = None
        if asked is not None:
            left_ns = min(max(asked.left_ns, 0), 1 << 62)
            ask = RemoteAsk(peer.process, letter.id, kernel.world.now_ns() + left_ns, asked.chain)
        mail = Mail(None, letter.id, letter.cause, letter.root, letter.hlc, sender, ask, size)
        cell = kernel.cells.get(target)
        if cell is None:
            kernel.dead_letter("unknown", mail, target, ActorStopped(f"there is no actor {target}"))
            return
        handler = cell.kind._wires.get(kind)
        if handler is None:
            known = ", ".join(sorted(cell.kind._wires)) or "nothing"
            kernel.dead_letter("unhandled", mail, target, Unhandled(f"{target} handles {known}, not {kind}"))
            return
        try:
            mail.message = handler.decode(letter.body)
        except Exception as problem:  # a message may check itself, with code and errors of its own
            kernel.dead_letter("undecodable", mail, target, Unhandled(f"{target}: {kind}: {problem}"))
            return
        if ask is not None and cell.held:
            ring = kernel.cycles.closes(cell, ask)
            if ring is not None:
                kernel.dead_letter("cycle", mail, target, AskCycle(ring))
                return
        if len(cell.mailbox) >= cell.capacity or cell.bytes >= MAILBOX_BYTES:
            if cell.bytes >= MAILBOX_BYTES_MAX:
                kernel.dead_letter("full", mail, target, Overloaded(f"the mailbox of {target} is full"))
                return
            self._pause(cell, peer)
        cell.bytes += size
        kernel.push(cell, mail)

    def _pause(self, cell: Cell, peer: Peer) -> None:
        """What is on its way is taken; the rest is held where it comes from."""
        if cell.paused is None:
            cell.paused = set()
        if peer.process not in cell.paused:
            cell.paused.add(peer.process)
            self._control(peer, "$pause", cell.name, "", None)

    def stranger(self, source: str, reason: str, detail: str) -> None:
        """Count what is refused; log it with its source while that is no flood."""
        self.strangers[reason] += 1
        count = self.strangers[reason]
        if count <= LOUD_STRANGERS or count & (count - 1) == 0:
            fields = {"source": source[:100], "reason": reason, "detail": detail[:200], "count": count}
            self._kernel.world.log("warning", "", "frame_refused", fields)

    # --- handshake
    def _handshake(self, source: str, peer: Peer | None, frame: Frame) -> bool:
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
            self.stranger(source, "bad HELLO", str(problem))
            return
        is_client = process.startswith("@")
        peer = self.peers.get(process)
        own = self._kernel.process
        if run != self._run or expected != own:
            self.stranger(source, "wrong HELLO", f"{process!r} looks for {expected!r} of run {run!r}")
            if is_client and len(self.peers) < CLIENTS_MAX:
                text = f"this is {own} of run {self._run}"
                self._peer(process, frame.incarnation).handshake(self._kernel.world.send, "$goaway", text)
            return
        if peer is None and is_client:
            peer = self._peer(process, frame.incarnation)
            if len(self.peers) >= CLIENTS_MAX:
                self._call_clients()
                self.stranger(source, "unknown process", f"{process!r}, and there is no room for more clients")
                peer.handshake(self._kernel.world.send, "$goaway", "it has no room for more clients now; try again")
                return
            self.peers[process] = peer
        if peer is None or peer.incarnation < frame.incarnation:
            if process in self._entries or (not self._entries and len(self._early) < EARLY_MAX):
                self._early[process] = (source, frame)  # it was (re)started, and our book is not there yet
            else:
                self.stranger(source, "unknown process", repr(process))
            return
        if peer.incarnation != frame.incarnation or (peer.source and peer.source != source and is_client):
            self.stranger(source, "old incarnation", f"{process!r} {frame.incarnation}")
            return
        peer.source = source
        peer.received = 0
        peer.handshake(self._kernel.world.send, "$welcome", None)
        if is_client:
            peer.state = "open"
            self._touch(peer)
        else:
            self.greet(process)  # acknowledgements, at least, will go back

    def _call_clients(self) -> None:
        """Send something to each client: the world says which of them have gone without a goodbye."""
        for peer in list(self.peers.values()):
            if peer.process.startswith("@"):
                peer.handshake(self._kernel.world.send, "$welcome", None)

    def _on_welcome(self, peer: Peer) -> None:
        peer.state = "open"
        for name in self._watches:
            if self.process_of(name) == peer.process:
                self._control(peer, "$watch", name, "", None)
        for cell in list(self._kernel.cells.values()):
            if cell.unlinked and peer.process in cell.unlinked:
                cell.unlinked.discard(peer.process)
                self._kernel.life.linked(cell)
        self._touch(peer)

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
            fields = {"process": process, "because": because, "outbox": dropped}
            kernel.world.log("warning", "", "process_lost", fields)
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
                self._control(peer, "$watch", name, cell.name, None)
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
                self.control(name, "$unwatch", "", None)

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
            self._control(peer, kind, "", notice.ref.name, body)

    # --- the kernels' own letters
    def _pending(self, peer: Peer, letter: Letter) -> Wait | None:
        """The ask that a letter answers; a peer answers only what it was asked."""
        wait = self._kernel.pending.get(letter.id)
        if wait is None or wait.target is None or wait.target.peer is not peer:
            return None
        return wait

    def _on_reply(self, peer: Peer, _target: str, _sender: str, letter: Letter) -> None:
        wait = self._pending(peer, letter)
        if wait is None:
            return
        kind = type(wait.message)
        decode = self._answers.get(kind)
        if decode is None:
            expected = type(None) if kind.answer is None else kind.answer  # type: ignore[union-attr]
            decode = self._answers[kind] = decoder(expected)
        try:
            value = decode(letter.body)
        except Exception as problem:
            self._kernel.settle(wait, None, Unhandled(f"the answer of {wait.target and wait.target.name}: {problem}"))
        else:
            self._kernel.settle(wait, value, None)

    def _on_error(self, peer: Peer, _target: str, _sender: str, letter: Letter) -> None:
        wait = self._pending(peer, letter)
        if wait is not None:
            wire, text, detail = _error(letter.body)
            try:
                failure = Failure.from_wire(wire, text, detail)
            except Exception:  # its class takes other arguments, against the rules: the asker hears of it all the same
                failure = Refused(f"{wire}: {text}", detail)
            self._kernel.settle(wait, None, failure)

    def _on_pause(self, peer: Peer, target: str, _sender: str, _letter: Letter) -> None:
        if self.process_of(target) == peer.process:
            peer.paused.setdefault(target, deque())
            peer.room = 0

    def _on_resume(self, peer: Peer, target: str, _sender: str, _letter: Letter) -> None:
        waiters = peer.paused.pop(target, None)
        if waiters:
            self._release(waiters)

    def _on_watch(self, peer: Peer, target: str, sender: str, _letter: Letter) -> None:
        cell = self._kernel.cells.get(target)
        if cell is None:
            self._control(peer, "$down", sender, target, ("there is no such actor", True))
            return
        if cell.watchers is None:
            cell.watchers = {}
        cell.watchers[peer.process] = None
        if cell.state == "ready":
            self._control(peer, "$up", "", target, None)

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

    def _on_probe(self, _peer: Peer, target: str, _sender: str, letter: Letter) -> None:
        cell = self._kernel.cells.get(target)
        path = _chain(letter.body)
        if cell is not None and 0 < len(path) <= CHAIN_LENGTH_MAX:
            self._kernel.cycles.arrive(cell, path)

    def _on_break(self, _peer: Peer, _target: str, _sender: str, letter: Letter) -> None:
        self._kernel.cycles.broken(*_break(letter.body))

    def _on_cancel(self, peer: Peer, _target: str, _sender: str, letter: Letter) -> None:
        task = self._kernel.serving.get(letter.id)
        if task is not None and isinstance(task.mail.ask, RemoteAsk) and task.mail.ask.process == peer.process:
            self._kernel.direct(task.cell, "cancel", letter.id)

    def cancel_ask(self, wait: Wait) -> None:
        """The asker is gone: tell the kernel that works for it."""
        assert wait.target is not None
        if wait.target.peer is not None:
            self._control(wait.target.peer, "$cancel", wait.target.name, wait.cell.name, None, wait.id)

    def _on_inspect(self, peer: Peer, _target: str, _sender: str, letter: Letter) -> None:
        self.answer(None, RemoteAsk(peer.process, letter.id, 0, ()), self._kernel.inspect(), None)

    def say_goodbye(self) -> None:
        """A client goes: those it talked to need not keep anything for it."""
        for peer in self.peers.values():
            if peer.state == "open":
                self._control(peer, "$bye", "", "", None)
        self.flush()

    def _on_bye(self, peer: Peer, _target: str, _sender: str, _letter: Letter) -> None:
        if peer.process.startswith("@"):
            self.lost(peer.process, "it said goodbye")


__all__ = ["Entry", "Mailroom", "Message", "format_id"]
