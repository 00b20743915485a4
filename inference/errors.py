"""The one kind of error a user is meant to read."""


class InputError(ValueError):
    """Something the user gave is wrong; the message says what, where, and what to do next.

    Args:
        problems: One message, or all that were found. Each names file, row or field, what was expected and what was found.
    """

    def __init__(self, problems: str | list[str]):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))
