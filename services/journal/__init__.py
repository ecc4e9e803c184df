"""The write-ahead log of training: records, their chain, and what they mean together. Knows no model and no Redis."""
