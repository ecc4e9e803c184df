"""The Ray actors of a job: started, watched, drained, replaced."""
