"""Checks of an application: each answers Up or Down with a reason, and never blocks another."""
