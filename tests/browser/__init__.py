"""The dashboard in a real browser, over a real API process and a real Redis."""
