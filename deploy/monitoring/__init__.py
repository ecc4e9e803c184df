"""One description of Grafana dashboards, alert rules and the page of metrics; `make dashboards` writes them all.

Written files are committed. A query may name only what the metric table, vLLM or Ray exports: tests check it, and that
the files are current.
"""
