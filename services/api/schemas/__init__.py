"""What requests say and what answers show, as pydantic models; a field's docstring describes it in /docs."""
