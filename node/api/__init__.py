"""The HTTP API. Its server is `node.api.server`, which is heavy; this face is the error table."""

from node.api.problems import EXIT_MEANINGS, TABLE, Exit, Row, exit_status, row_of

__all__ = ["EXIT_MEANINGS", "TABLE", "Exit", "Row", "exit_status", "row_of"]
