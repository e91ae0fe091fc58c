"""A benchmark run as one HTML page that needs nothing else: tables, charts, and the queries that failed."""
