"""Redis: the client, every key, job records, events, step records, the worker registry."""
