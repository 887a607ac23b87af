"""One member's life: the pure state machine, and the runner that does what it decides."""
