"""Parts of pages: each draws itself from a look at a job, and says in words when there is nothing to draw."""
