"""An actor: settings, links, handlers and a life, behind one door to the world.

A class is read once, when it is made: its handlers by the type of their message, its public annotated
attributes as settings and links. Only the actor's own handlers touch its state, one message at a time, and
time, chance, disk, network and log come only through `self`; that one door makes simulation and replay true.
The kernel that drives it is `zactor.kernel`.
"""

from __future__ import annotations

import copy
import inspect
import random
import sys
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, ClassVar, Literal, ParamSpec, TypeVar, cast, overload

import msgspec

from zactor.door import Disk, Later, Log
from zactor.hlc import WALL_MASK
from zactor.message import Message, Ref, bulk_fields, check_immutable, decoder
from zactor.supervision import Supervision
from zactor.world import Call, InThread

A = TypeVar("A")
M = TypeVar("M", bound=Message[Any])
F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")

SYNC, ASYNC, INTERLEAVED = 0, 1, 2
WITH_ENVELOPE = 4


class Down(Message[None]):
    """Told to whoever watches `ref` when it fails or ends. `final`: it does not come back under this ref."""

    ref: Ref[Any]
    reason: str
    final: bool


class Up(Message[None]):
    """Told to whoever watches `ref` when it is ready again after a `Down`."""

    ref: Ref[Any]


class Handler(msgspec.Struct):
    """One entry of an actor's table: `mode` is SYNC, ASYNC or INTERLEAVED, plus WITH_ENVELOPE."""

    function: Callable[..., Any]
    mode: int
    message: type[Message[Any]]
    decode: Callable[[Any], Any]
    is_bulk: bool


class Setting(msgspec.Struct, frozen=True):
    """A typed attribute that a topology sets. `default` is `msgspec.UNSET` when it must be given."""

    name: str
    type: Any
    default: Any


class Link(msgspec.Struct, frozen=True):
    """A role that a topology fills: whom the actor talks to, and which messages it may send there."""

    name: str
    messages: tuple[type[Message[Any]], ...]
    many: bool
    optional: bool
    drop: bool


class Description(msgspec.Struct, frozen=True):
    """What the outside may know of a kind."""

    settings: dict[str, Setting]
    links: dict[str, Link]
    messages: dict[str, type[Message[Any]]]


class _LinkOptions(msgspec.Struct, frozen=True):
    drop: bool


def link(*, overflow: Literal["fail", "drop"]) -> Any:
    """A link whose `tell` drops and counts (`drop`) or raises `Overloaded` (`fail`, as without it) when full."""
    return _LinkOptions(overflow == "drop")


@overload
def on(function: F, /) -> F: ...
@overload
def on(*, interleave: bool) -> Callable[[F], F]: ...
def on(function: Any = None, /, *, interleave: bool = False) -> Any:
    """Mark a handler. It is found by the type of its message; `interleave` lets others overtake its awaits."""

    def mark(handler: Any) -> Any:
        handler.__zactor_interleave__ = interleave
        return handler

    return mark if function is None else mark(function)


def _place(function: Any) -> str:
    code = inspect.unwrap(function).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def _read_handler(cls: type, function: Any) -> list[Handler]:
    where = f"{_place(function)}: {cls.__name__}.{function.__name__}"
    parameters = list(inspect.signature(function).parameters)[1:]
    if len(parameters) not in (1, 2) or (len(parameters) == 2 and parameters[1] != "envelope"):
        raise TypeError(f"{where} takes {parameters}; a handler takes a message and, if it likes, `envelope`")
    hints = typing.get_type_hints(function, vars(sys.modules[cls.__module__]) | {cls.__name__: cls})
    annotation = hints.get(parameters[0])
    several = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kinds = typing.get_args(annotation) if several else (annotation,)
    handlers = []
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Message)):
            raise TypeError(f"{where}: its parameter `{parameters[0]}` needs the type of a Message, not {kind}")
        given = hints.get("return", inspect.Signature.empty)
        if typing.get_origin(given) is Later:
            given = typing.get_args(given)[0]
        expected = type(None) if kind.answer is None else kind.answer
        if given != expected:
            raise TypeError(f"{where} returns {_name(given)}, but {kind.__name__} is answered by {_name(expected)}")
        check_immutable(kind)
        mode = SYNC
        if inspect.iscoroutinefunction(function):
            mode = INTERLEAVED if function.__zactor_interleave__ else ASYNC
        elif function.__zactor_interleave__:
            raise TypeError(f"{where} has interleave=True, but only an async handler can be overtaken")
        mode |= WITH_ENVELOPE if len(parameters) == 2 else 0
        handlers.append(Handler(function, mode, kind, decoder(kind), bool(bulk_fields(kind))))
    return handlers


def _name(annotation: Any) -> str:
    if annotation is inspect.Signature.empty:
        return "nothing that is annotated"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _read_link(name: str, annotation: Any, default: Any) -> Link | None:
    """The link that an annotation means, or None when it is a setting."""
    parts = [annotation]
    optional = False
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(annotation) if part is not type(None)]
        optional = len(parts) < len(typing.get_args(annotation))
    if len(parts) != 1:
        return None
    many = typing.get_origin(parts[0]) is tuple and typing.get_args(parts[0])[-1] is Ellipsis
    ref = typing.get_args(parts[0])[0] if many else parts[0]
    if ref is not Ref and typing.get_origin(ref) is not Ref:
        return None
    takes = typing.get_args(ref)[0] if typing.get_args(ref) else Message
    if typing.get_origin(takes) in (typing.Union, types.UnionType):
        messages = typing.get_args(takes)
    else:
        messages = (takes,) if isinstance(takes, type) and takes is not Message else ()
    return Link(name, messages, many, optional, isinstance(default, _LinkOptions) and default.drop)


def describe(kind: type[Actor]) -> Description:
    """The settings, links and messages of a kind, read once. Raises TypeError for what cannot be either."""
    found = vars(kind).get("_description")
    if isinstance(found, Description):
        return found
    settings: dict[str, Setting] = {}
    links: dict[str, Link] = {}
    for name, annotation in typing.get_type_hints(kind, include_extras=True).items():
        if name.startswith("_") or typing.get_origin(annotation) is ClassVar or annotation is ClassVar:
            continue
        default = getattr(kind, name, msgspec.UNSET)
        found_link = _read_link(name, annotation, default)
        if found_link is not None:
            links[name] = found_link
        else:
            settings[name] = Setting(name, annotation, default)
    messages = {handler.message.__name__: handler.message for handler in kind._handlers.values()}
    kind._description = about = Description(settings, links, messages)
    return about


class _Sent:
    """What `send` returns when there is room: nothing is waited for."""

    def __await__(self) -> Generator[Any, None, None]:
        return _NOTHING


# An iterator that has ended does for a generator here, and costs a fifth of one.
_NOTHING = cast("Generator[Any, None, None]", iter(()))
_SENT = _Sent()


def _tell_far(sender: Any, target: Ref[Any], message: Message[Any]) -> bool:
    """The short way to another process; see `Peer.tell`. Returns whether it was open."""
    kernel, peer = sender.kernel, target.peer
    if peer is None:
        return False
    number = kernel.sequence + 1
    current = kernel.current
    letters = peer.tell(message, target.name, sender.name, number, current.id, current.root or number, kernel.hlc)
    if not letters:
        return False
    kernel.sequence = number
    if letters == 1:
        kernel.mailroom.touch(peer)
    return True


class Actor:
    """Subclass it: annotate settings and links, mark handlers with `@on`. State begins with `_`."""

    mailbox_size: ClassVar[int] = 10_000
    """Messages that wait; beyond it a sender's link fails or drops."""
    turn_messages: ClassVar[int] = 64
    """Messages handled in one turn, after which `on_turn_end` is called."""
    supervision: ClassVar[Supervision] = Supervision()
    """What happens when a handler raises."""

    _handlers: ClassVar[dict[type, Handler]] = {}
    _wires: ClassVar[dict[str, Handler]] = {}
    _description: ClassVar[Any] = None
    _blank: ClassVar[dict[str, Any] | None] = None
    _has_turn_end: ClassVar[bool] = False
    _cell: Any

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        handlers = dict(cls._handlers)
        own: dict[type, Handler] = {}
        for function in vars(cls).values():
            if not hasattr(function, "__zactor_interleave__"):
                continue
            for handler in _read_handler(cls, function):
                if handler.message in own:
                    other = own[handler.message].function.__name__
                    raise TypeError(
                        f"{_place(function)}: {cls.__name__} handles {handler.message.__name__} twice: "
                        f"in {other} and in {function.__name__}"
                    )
                own[handler.message] = handler
        handlers.update(own)
        cls._handlers = handlers
        cls._wires = {handler.message.wire: handler for handler in handlers.values()}
        if len(cls._wires) < len(handlers):
            raise TypeError(f"{cls.__name__} handles two messages of one wire name: {sorted(cls._wires)}")
        cls._has_turn_end = cls.on_turn_end is not Actor.on_turn_end
        cls._description = cls._blank = None

    # --- what a kind may define
    def on_start(self) -> Coroutine[Any, Any, None] | None:
        """Called when every link exists. May be async; mail waits until it returns."""

    def on_stop(self) -> None:
        """Called before the actor goes, unless its process is killed."""

    def on_turn_end(self) -> None:
        """Called once after a turn in which something was handled."""

    def status(self) -> str:
        """How it fares in its own words, a line for `top`: `"leader of term 4"`.

        It is called between two turns, at any time, and only looks at what the actor holds: the door is shut, and
        nothing may change by it. It should be short, since the rest is cut off, and quick.
        """
        return ""

    def on_synced(self, write_id: int) -> None:
        """All that was written before `disk.commit(write_id)` is durable."""

    def on_disk_failed(self, error: Exception) -> None:
        """A write or a sync failed that nobody awaited. Raises it unless overridden."""
        raise error

    def checkpoint(self) -> Any:
        """All that `from_checkpoint` needs to go on from here: plain values, messages and refs.

        Recordings begin with it when what came before was overwritten; without one they begin at the actor's start.
        """
        return {name: value for name, value in vars(self).items() if name != "_cell"}

    def from_checkpoint(self, state: Any) -> None:
        """Take over what `checkpoint` returned, in a new object with settings and links. `on_start` is not called."""
        vars(self).update(state)

    # --- the door
    @property
    def ref(self) -> Ref[Any]:
        """This actor, as others see it."""
        ref: Ref[Any] = self._cell.ref()
        return ref

    def tell(self, target: Ref[M], message: M) -> None:
        """Send and go on. Raises `Overloaded` when the target is full, unless the link drops."""
        sender = self._cell
        kernel = sender.kernel
        cell = target.cell
        if cell is None:
            if not _tell_far(sender, target, message):
                kernel.tell(sender, target, message)
            return
        mailbox = cell.mailbox
        if len(mailbox) >= cell.limit:
            kernel.tell(sender, target, message)
            return
        kernel.sequence = number = kernel.sequence + 1
        current, mail = kernel.current, kernel.mail
        mailbox.append(mail(message, number, current.id, current.root or number, kernel.hlc, sender))
        if not cell.queued:
            cell.queued = True
            kernel.queue.append(cell)
            if not kernel.armed:
                kernel.arm()

    def ask(self, target: Ref[Any], message: Message[A], timeout_s: float = 5.0) -> Awaitable[A]:
        """Send and wait for the answer: at most `timeout_s`, or what the ask being handled has left.

        Raises (at the await) `AskTimeout`, `AskCycle`, `ActorFailed`, `ActorStopped`, `ConnectionLost`, `Unhandled`,
        `Overloaded`, or what the handler refused with.
        """
        wait: Awaitable[A] = self._cell.kernel.ask(self._cell, target, message, int(timeout_s * 1e9))
        return wait

    def ask_soon(self, make: Callable[[], tuple[Ref[Any], Message[A]] | None], timeout_s: float = 5.0) -> Awaitable[A]:
        """Ask at the end of this turn: `make` says then whom and what, or None if nobody wants it any more.

        So what the handlers of a turn want can leave as one message. Several of them may await the answer.
        """
        wait: Awaitable[A] = self._cell.kernel.ask_soon(self._cell, make, int(timeout_s * 1e9))
        return wait

    def send(self, target: Ref[M], message: M, timeout_s: float = 1.0) -> Awaitable[None]:
        """`tell` that waits for room. Raises `Overloaded` (at the await) when there is none in time."""
        sender, cell = self._cell, target.cell
        if cell is None:
            if _tell_far(sender, target, message):
                return _SENT
        elif len(cell.mailbox) < cell.limit:
            self.tell(target, message)
            return _SENT
        wait: Awaitable[None] = sender.kernel.send(sender, target, message, int(timeout_s * 1e9))
        return wait

    def later(self) -> Later[Any]:
        """A promise to answer the message being handled; return it from the handler."""
        later: Later[Any] = self._cell.kernel.later(self._cell)
        return later

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait."""
        wait: Awaitable[None] = self._cell.kernel.waits.sleep(self._cell, int(seconds * 1e9))
        return wait

    def after(self, seconds: float, message: Message[Any]) -> int:
        """Tell oneself later. Returns what `cancel` takes."""
        timer: int = self._cell.kernel.waits.after(self._cell, int(seconds * 1e9), message)
        return timer

    def cancel(self, timer: int) -> bool:
        """Take back a timer that has not fired. Returns whether it was in time."""
        cancelled: bool = self._cell.kernel.waits.cancel_timer(self._cell, timer)
        return cancelled

    def now_ns(self) -> int:
        """Nanoseconds of a clock that never goes back; constant while one input is handled."""
        now_ns: int = self._cell.kernel.now_ns
        return now_ns

    def wall_ns(self) -> int:
        """Nanoseconds since 1970, for people to read: as a log event now would have it, so it never goes back.

        No protocol decides by it; see `zactor.hlc`.
        """
        wall_ns: int = self._cell.kernel.hlc & WALL_MASK
        return wall_ns

    @property
    def rng(self) -> random.Random:
        """This actor's own stream of chance."""
        stream: random.Random = self._cell.kernel.rng(self._cell)
        return stream

    @property
    def disk(self) -> Disk:
        """This actor's files."""
        return Disk(self._cell)

    @property
    def log(self) -> Log:
        """This actor's log."""
        return Log(self._cell)

    def call(self, function: Callable[P, Coroutine[Any, Any, A]], *values: P.args, **none: P.kwargs) -> Awaitable[A]:
        """Run a coroutine function of an asyncio library and wait for its result, an encodable value."""
        assert not none, "call takes values by position"
        wait: Awaitable[A] = self._cell.kernel.waits.operate(self._cell, Call(function, values), None)
        return wait

    def in_thread(self, function: Callable[P, A], *values: P.args, **none: P.kwargs) -> Awaitable[A]:
        """Run a function that blocks in a thread and wait for its result, an encodable value."""
        assert not none, "in_thread takes values by position"
        wait: Awaitable[A] = self._cell.kernel.waits.operate(self._cell, InThread(function, values), None)
        return wait

    def spawn(self, kind: type[Actor], name: str | None = None, **given: Any) -> Ref[Any]:
        """Start a child with these settings and links. It stops with its parent, which supervises it."""
        ref: Ref[Any] = self._cell.kernel.life.spawn_child(self._cell, kind, name, given)
        return ref

    def watch(self, target: Ref[Any]) -> None:
        """Be told `Down` and `Up` of another actor, which this class must handle."""
        self._cell.kernel.life.watch(self._cell, target)

    def unwatch(self, target: Ref[Any]) -> None:
        """Be told no more."""
        self._cell.kernel.life.unwatch(self._cell, target)

    def stop(self, child: Ref[Any] | None = None) -> None:
        """Stop a child, or oneself, after the current handler. What waits in its mailbox becomes dead letters."""
        self._cell.kernel.life.stop_from(self._cell, child)


def _blank(kind: type[Actor]) -> dict[str, Any]:
    """What each new object needs an attribute of its own for; UNSET marks what must be given."""
    about = describe(kind)
    blank: dict[str, Any] = {
        name: setting.default
        for name, setting in about.settings.items()
        if setting.default is msgspec.UNSET or isinstance(setting.default, (list, dict, set))
    }
    for name, role in about.links.items():
        blank[name] = () if role.many else None if role.optional else msgspec.UNSET
    return blank


def assemble(kind: type[Actor], cell: Any, given: dict[str, Any]) -> Actor:
    """A new object of a kind with its settings and links. Raises TypeError for one that is unknown or missing."""
    if kind._blank is None:
        kind._blank = _blank(kind)
    if given:
        about = describe(kind)
        unknown = given.keys() - about.settings.keys() - about.links.keys()
        if unknown:
            known = sorted(about.settings | about.links)
            raise TypeError(f"{kind.__name__} has no setting or link {sorted(unknown)}; it has {known}")
    actor = kind.__new__(kind)
    actor._cell = cell
    for name, value in kind._blank.items():
        if name not in given:
            if value is msgspec.UNSET:
                raise TypeError(f"{kind.__name__} needs {name!r}")
            setattr(actor, name, copy.copy(value))
    for name, value in given.items():
        setattr(actor, name, value)
    actor.__init__()  # type: ignore[misc]
    return actor
