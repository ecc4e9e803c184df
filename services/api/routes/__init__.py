"""Thin routes: read the request, call the store, show the result."""
