"""What the learner tells readers: step records, samples, events, other tools."""
