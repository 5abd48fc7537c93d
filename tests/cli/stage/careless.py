"""An actor that reaches past its door in the usual ways."""

import random
import threading
import time as clock
from datetime import datetime

from zactor import Actor, Message, on


class Tick(Message[str]):
    pass


class Careless(Actor):
    """What it does at a tick would be different in each run."""

    @on
    async def tick(self, message: Tick) -> str:
        threading.Thread(target=print).start()
        await self.in_thread(clock.sleep, 0.1)  # this is the door
        return f"{datetime.now()} {name()} {self.rng.random()}"


def name() -> str:
    with open("names") as names:
        return random.choice(names.readlines()) + str(clock.time())


def unused() -> None:
    clock.sleep(1)
