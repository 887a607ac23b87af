"""Pure decisions about clusters: members, conditions, plans. No I/O, no clock of its own."""
