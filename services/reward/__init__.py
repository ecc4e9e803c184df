"""Reward workers: graders run in a process of their own; a grading that fails is a typed failure, never a reward."""
