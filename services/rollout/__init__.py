"""Rollout workers: sample groups with an engine, under weights they have proven to hold."""
