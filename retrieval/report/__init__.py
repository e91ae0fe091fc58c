"""A benchmark run as one HTML page that needs nothing else: tables, charts, and the queries that failed."""

from __future__ import annotations

from retrieval.report.page import write_report
from retrieval.report.pareto import pareto_front
from retrieval.report.scatter import Point, scatter_svg

__all__ = ["Point", "pareto_front", "scatter_svg", "write_report"]
