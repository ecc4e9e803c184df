"""Random kills, stops and cuts of a running service, and an auditor that believes only the journal."""
