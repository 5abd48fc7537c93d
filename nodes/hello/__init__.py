"""The tutorial: a greeter and its caller."""

from __future__ import annotations

from zactor.actor import Actor

from .actor import Caller, Greeter

KINDS: dict[str, type[Actor]] = {"hello.greeter": Greeter, "hello.caller": Caller}
