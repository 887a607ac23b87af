"""What can go wrong in the agent, by what is to be done about it.

    AgentError
    ├── SettingsError        the machine's file is wrong: a person mends it, the agent does not start
    ├── TransientError       goes away by itself: try again after `delay` seconds
    ├── PermanentError       stays until a person acts; `reason` goes into status and events
    └── ConflictError        somebody else holds what this agent needs

It is not the place for a failed check or a script's exit status: those are results, not errors.
"""


class AgentError(Exception):
    """Base of all errors of the agent."""


class SettingsError(AgentError):
    """The configuration can't be used; the message names the file and the field."""


class TransientError(AgentError):
    """Goes away by itself; worth another try after `delay` seconds."""

    def __init__(self, message: str, *, delay: float = 1.0) -> None:
        super().__init__(message)
        self.delay = delay


class PermanentError(AgentError):
    """Stays until somebody changes something; `reason` is CamelCase, the message says what to do."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ConflictError(AgentError):
    """Somebody else holds what this agent needs."""
