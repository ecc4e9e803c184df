"""A job as data: its spec, its guard, its grader, its data set. Plain data and checks; the only I/O is to read a data
file."""
