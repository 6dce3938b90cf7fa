"""What is wrong with a Formfile, its parameters, or the machine it is to run on."""

from __future__ import annotations

from crdt import UserFault


class FormfileError(UserFault):
    """A Formfile that cannot be read, and where.

    Attributes:
        line, column: From 1, in characters, of the first thing that is wrong.
    """

    code = "bad-template"

    def __init__(self, line: int, column: int, message: str) -> None:
        self.line = line
        self.column = column
        self.message = message
        super().__init__(f"line {line}, column {column}: {message}")


class BadParameters(UserFault):
    """Values for a template's parameters that it does not take; `faults` has all of them."""

    code = "bad-template"

    def __init__(self, faults: tuple[str, ...]) -> None:
        assert faults
        self.faults = faults
        super().__init__("; ".join(faults))


class UnknownTemplate(UserFault):
    """A name or digest that is no built-in template's."""

    code = "bad-template"


class DoesNotFit(UserFault):
    """A machine or a declared minimum that is too small, by which term, and what would fit."""

    code = "does-not-fit"
