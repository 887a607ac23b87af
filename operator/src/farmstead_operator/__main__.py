"""Entry point."""


def main() -> None:
    """Start."""
    raise SystemExit("not built yet")
