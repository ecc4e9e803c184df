"""Errors of a journal: it is damaged, or another learner has taken the place."""

from __future__ import annotations


class JournalDamaged(Exception):
    """A record is missing, fails its hash, breaks the chain, or has lost the groups that are still needed.

    Fails the job: `code` goes into its error, and the message says what to do.
    """

    code = "journal_damaged"


class SequenceTaken(Exception):
    """Another learner committed this place of the journal first; this learner must end itself."""
