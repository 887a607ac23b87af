"""What a failed check leads to: actions, their limits, and the rules between them. Pure."""
