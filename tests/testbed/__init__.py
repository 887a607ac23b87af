"""What stands in for a data centre on one machine: API server, Azure, machines. Real parts where they are."""
