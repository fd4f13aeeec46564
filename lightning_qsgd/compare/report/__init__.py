"""The report of a comparison: pages for people, a table for the terminal."""

from lightning_qsgd.compare.report.write_report import summary_table, write_report

__all__ = ["summary_table", "write_report"]
