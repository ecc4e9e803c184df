"""The reports of a learner: step records, samples, events, other tools."""
