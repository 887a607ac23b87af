"""What the writers were promised, kept outside the machines, and what a directory may hold after a power cut.

Each thing that is written (a block, a name, a log) has a history: every state it was or may have been given, how far
these were acknowledged, and how far they were synced. A writer does one operation after the other and is alone at its
things, so what is found must be a state of the history, and none before the promised one. Pure: no machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

TORN = "torn"
NUMBERS = 1_000_000
State = int | str | tuple[int | str, ...] | None
"""The number of the write that made a block or a file, or TORN; a log's numbers, TORN behind them; None: nothing."""


class Promise(Enum):
    """What must have outlived a power cut."""

    RETURNED = "every operation that had returned"
    SYNCED = "every operation that a returned fsync covers"


@dataclass
class History:
    """One thing's states, oldest first: none before `synced` can come back, none after `returned` was promised."""

    may_tear: bool
    states: list[State]
    returned: int = 0
    synced: int = 0

    def promised(self, promise: Promise) -> int:
        """The oldest state that may be found."""
        return self.returned if promise is Promise.RETURNED else self.synced

    def position(self, found: State, promise: Promise) -> int | None:
        """Which of the states that may be found this is; None: none of them."""
        oldest = self.promised(promise)
        for at in range(len(self.states) - 1, oldest - 1, -1):
            if self.states[at] == found:
                return at
        # Something that was under way when the power went may be there in part, where it is more than one block.
        newest = len(self.states) - 1
        if self.may_tear and oldest < newest and _torn(found):
            whole = found[:-1] if isinstance(found, tuple) else None
            if whole is None or whole in self.states[oldest:]:
                return newest
        return None

    def settle(self, found: State, at: int) -> None:
        """This is what it is from now on: what came after never was."""
        kept = self.states[self.synced : at + 1]
        self.states = kept if kept[-1] == found else [*kept, found]
        self.returned, self.synced = len(self.states) - 1, 0


def _torn(found: State) -> bool:
    return found == TORN or (isinstance(found, tuple) and found[-1:] == (TORN,))


@dataclass(frozen=True)
class Operation:
    """One that was begun: whose, what, and the state that it gives."""

    writer: str
    kind: str
    history: History | None
    at: int


Thing = tuple[str, str, int]
"""Writer, `block`, `name` or `log`, and which."""


@dataclass
class Ledger:
    """All that the writers have said."""

    histories: dict[Thing, History] = field(default_factory=dict)
    pending: dict[int, Operation] = field(default_factory=dict)
    late: dict[int, bool] = field(default_factory=dict)
    """Those that were under way when something was found instead, and whether it was there: only then it may return."""
    failed: list[str] = field(default_factory=list)
    first: int = 0
    begun: int = 0
    returned: int = 0
    syncs: int = 0

    def new_writer(self) -> int:
        """The first number of a writer that takes over: whatever an earlier one begins from now on must fail."""
        self.first = (self.begun // NUMBERS + 1) * NUMBERS
        return self.first

    def take(self, line: str) -> None:
        """One line of a writer: it begins, has done or could not do an operation."""
        sign, number_text, *rest = line.split(maxsplit=2)
        number = int(number_text)
        if sign == "+" and number < self.first:
            self.late[number] = False
        elif sign == "+":
            writer, kind, key = rest[0].split()
            self.begun = max(self.begun, number)
            self.pending[number] = self._begin(number, writer, kind, int(key))
        elif number in self.late:
            # Of a machine that was only stopped: its operation fails, unless it was done before another one took over.
            if sign == "=" and not self.late.pop(number):
                self.failed.append(f"operation {number} returned, and the machine that had taken over does not have it")
        elif sign == "=":
            self._end(self.pending.pop(number))
        else:
            self.failed.append(line)

    def _begin(self, number: int, writer: str, kind: str, key: int) -> Operation:
        match kind.removesuffix("-sync"):
            case "write" | "dsync":
                return self._next((writer, "block", key), number, kind)
            case "put":
                return self._next((writer, "name", key), number, kind)
            case "drop":
                return self._next((writer, "name", key), None, kind)
            case "reset":
                return self._next((writer, "log", 0), (), kind)
            case "append":
                before = self._history((writer, "log", 0)).states[-1]
                assert isinstance(before, tuple)
                return self._next((writer, "log", 0), (*before, number), kind)
            case "sync":
                return Operation(writer, kind, None, 0)
        raise ValueError(f"no operation: {kind}")

    def _next(self, thing: Thing, state: State, kind: str) -> Operation:
        history = self._history(thing)
        history.states.append(state)
        return Operation(thing[0], kind, history, len(history.states) - 1)

    def _history(self, thing: Thing) -> History:
        kind = thing[1]
        nothing: State = () if kind == "log" else None
        # A block is one page and one block of the file system: all or nothing of it is written.
        return self.histories.setdefault(thing, History(kind != "block", [nothing]))

    def _end(self, operation: Operation) -> None:
        self.returned += 1
        if operation.history is None:
            self.syncs += 1
            for (writer, kind, _), history in self.histories.items():
                if writer == operation.writer and kind == "block":
                    history.synced = history.returned
            return
        operation.history.returned = operation.at
        if operation.kind == "dsync" or operation.kind.endswith("-sync"):
            self.syncs += 1
            operation.history.synced = operation.at

    def violations(self, found: Mapping[str, Any], promise: Promise) -> list[str]:
        """What should not be as it is, in sentences; `found` is what `look.py records` printed."""
        states = {thing: _state(found, thing) for thing in self.histories}
        return [
            _sentence(thing, states[thing], history, promise)
            for thing, history in self.histories.items()
            if history.position(states[thing], promise) is None
        ]

    def settle(self, found: Mapping[str, Any], promise: Promise) -> list[str]:
        """As `violations`, and what was found is the truth from now on."""
        broken = self.violations(found, promise)
        places = {id(each): each.position(_state(found, thing), promise) for thing, each in self.histories.items()}
        for number, operation in self.pending.items():
            at = places.get(id(operation.history), operation.at)
            self.late[number] = at is not None and at >= operation.at
        for thing, history in self.histories.items():
            at = places[id(history)]
            if at is not None:
                history.settle(_state(found, thing), at)
        self.pending.clear()
        return broken


def _sentence(thing: Thing, state: State, history: History, promise: Promise) -> str:
    writer, kind, key = thing
    allowed = history.states[history.promised(promise) :]
    named = " or ".join(map(_short, allowed[:4])) + (" or a later one" if len(allowed) > 4 else "")
    return f"writer {writer}, {kind} {key}: {_short(state)} is there, and not {named} (promised: {promise.value})"


def _state(found: Mapping[str, Any], thing: Thing) -> State:
    writer, kind, key = thing
    folder = found.get(writer, {})
    if kind == "log":
        log = folder.get("log", {"numbers": [], "torn": False})
        return (*log["numbers"], TORN) if log["torn"] else tuple(log["numbers"])
    state: State = folder.get(f"{kind}s", {}).get(str(key))
    return state


def _short(state: State) -> str:
    if isinstance(state, tuple):
        return f"a log of {len(state)} records to {state[-1]}" if state else "an empty log"
    return "nothing" if state is None else f"{state}"
