"""An actor that cannot start."""

from zactor import Actor


class Dies(Actor):
    async def on_start(self) -> None:
        raise OSError("there is no such device")
