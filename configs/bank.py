"""A bank with a mistake in it, for the walk in the README: money is taken, and never arrives."""

from __future__ import annotations

from zactor import Actor, Message, Refs, on


class Withdraw(Message[None]):
    """Take so many cents."""

    cents: int


class Deposit(Message[None]):
    """Put so many cents there."""

    cents: int
    note: str = ""


class Balance(Message[int]):
    """Answered by the cents that are there; by the bank, those of all accounts."""


class Transfer(Message[None]):
    """Move cents between two accounts, named by their numbers."""

    source: int
    target: int
    cents: int
    note: str = ""


class Account(Actor):
    """Holds `cents`."""

    cents: int = 10_000

    def on_start(self) -> None:
        self.balance = self.cents

    @on
    def withdraw(self, message: Withdraw) -> None:
        self.balance -= message.cents

    @on
    def deposit(self, message: Deposit) -> None:
        self.balance += message.cents
        self.log.info("deposited", cents=message.cents, purpose=message.note.split()[0])

    @on
    def tell_balance(self, _message: Balance) -> int:
        return self.balance


class Bank(Actor):
    """Moves money between its accounts."""

    accounts: Refs[Withdraw | Deposit | Balance]

    @on
    def transfer(self, message: Transfer) -> None:
        self.tell(self.accounts[message.source], Withdraw(cents=message.cents))
        self.tell(self.accounts[message.target], Deposit(cents=message.cents, note=message.note))

    @on
    async def total(self, message: Balance) -> int:
        return sum([await self.ask(account, message) for account in self.accounts])
