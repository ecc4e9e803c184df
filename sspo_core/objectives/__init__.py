"""The objectives: ratios, trust regions, means, aggregations and surrogates, and how they compose."""
