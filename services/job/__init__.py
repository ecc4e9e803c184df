"""What a job says: its spec, its guard, its grader, its data. Plain data and checks, no I/O but reading a data file."""
