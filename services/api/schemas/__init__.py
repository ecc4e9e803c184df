"""Requests and answers as pydantic models. A field's docstring describes it in /docs."""
