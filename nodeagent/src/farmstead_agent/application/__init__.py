"""Kinds of applications, and the Launcher that starts what must outlive the agent."""
