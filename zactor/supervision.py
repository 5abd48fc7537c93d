"""What happens after a failure: resume, restart, stop or escalate. Pure, and the same for actors and processes.

The words are those of Erlang's supervisors and Akka's directives, the strategy is one-for-one. A restart waits:
0.1 s, doubling to 10 s, with jitter, and after five in 60 s the failure goes up instead: to the parent, from
the topmost actor to the process, and from the process to its launcher, which asks this same page.
"""

from __future__ import annotations

import random
from typing import Literal

import msgspec

Directive = Literal["resume", "restart", "stop", "escalate"]

SECOND_NS = 1_000_000_000


class Supervision(msgspec.Struct, frozen=True, kw_only=True):
    """A policy. `when` says after which ends to restart; `directives` gives some errors a fate of their own."""

    when: Literal["failure", "always", "never"] = "failure"
    backoff_min_ns: int = SECOND_NS // 10
    backoff_max_ns: int = 10 * SECOND_NS
    limit_count: int = 5
    limit_window_ns: int = 60 * SECOND_NS
    directives: tuple[tuple[type[Exception], Directive], ...] = ()


class Decision(msgspec.Struct, frozen=True):
    """What to do, how long to wait before it (restart only), and why."""

    directive: Directive
    delay_ns: int
    because: str


class Restarts:
    """The restarts of one actor or process, as far back as its policy looks."""

    __slots__ = ("count", "times_ns")

    def __init__(self) -> None:
        self.times_ns: list[int] = []
        self.count = 0

    def decide(self, policy: Supervision, error: BaseException | None, now_ns: int, rng: random.Random) -> Decision:
        """What follows from an end with `error` (None: it ended by itself). A restart decided on is counted."""
        if error is None and policy.when != "always":
            return Decision("stop", 0, "it ended by itself")
        for kind, directive in policy.directives:
            if isinstance(error, kind) and directive != "restart":
                return Decision(directive, 0, f"its policy for {kind.__name__}")
        if policy.when == "never":
            return Decision("stop", 0, "its policy is never to restart")
        self.times_ns = [at for at in self.times_ns if at > now_ns - policy.limit_window_ns]
        recent = len(self.times_ns)
        if recent >= policy.limit_count:
            window_s = policy.limit_window_ns / SECOND_NS
            return Decision("escalate", 0, f"{recent} restarts in {window_s:g} s")
        self.times_ns.append(now_ns)
        self.count += 1
        delay_ns = min(policy.backoff_min_ns << recent, policy.backoff_max_ns)
        # Jitter upwards by at most a quarter: replicas that failed together do not come back together.
        return Decision("restart", delay_ns + rng.randrange(delay_ns // 4 + 1), f"restart {recent + 1}")

    def leaves_room(self, policy: Supervision, now_ns: int, ends: int) -> bool:
        """Whether so many ends more would all be followed by restarts, and another one after them."""
        since_ns = now_ns - policy.limit_window_ns
        return policy.when != "never" and sum(at > since_ns for at in self.times_ns) + ends < policy.limit_count
