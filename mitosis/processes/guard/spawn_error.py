"""The error of a start that failed."""


class SpawnError(Exception):
    """The program could not be started.

    Attributes:
        stage: one of `Stage` in `processes/runs.py`.
        number: error number of the operating system.
        text: what was tried on what.
    """

    def __init__(self, stage: str, number: int, text: str) -> None:
        super().__init__(stage, number, text)
        self.stage = stage
        self.number = number
        self.text = text
