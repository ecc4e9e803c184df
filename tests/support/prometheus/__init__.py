"""A real Prometheus, and every question that dashboards and alerts ask it."""
