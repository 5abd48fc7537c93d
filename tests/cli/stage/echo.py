"""An actor that says more in its debug log than is kept."""

from zactor import Actor, Message, on


class Say(Message[str]):
    text: str


class Echo(Actor):
    def on_start(self) -> None:
        self._heard = 0

    @on
    def say(self, message: Say) -> str:
        self._heard += 1
        self.log.debug("heard", count=self._heard)
        return message.text
