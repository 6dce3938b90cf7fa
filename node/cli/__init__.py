"""The command line: everything an operator or a creator does with Hansa, typed."""

from node.cli.app import app, main, run

__all__ = ["app", "main", "run"]
