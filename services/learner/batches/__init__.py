"""From the `scored` stream to a batch: waiting, the staleness gate, drops."""
