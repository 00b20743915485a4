"""Rows with an `error`: counted, copied to a file, and a limit on them."""

import json
from pathlib import Path
from typing import IO, Any

from policy_tagger.inference.errors import InputError
from policy_tagger.inference.part_files import explained


class ErrorRows:
    """Counts rows with an error.

    Args:
        path: JSON lines file for copies of them; None for none.
        limit: More than this raise; None for no limit.
        count: How many an earlier run counted.
        length: Bytes of the file that go with what the earlier run finished; what follows them is cut off.
        resume: An earlier run's file may be there.
    """

    def __init__(self, path: str | None, limit: int | None, count: int, length: int, resume: bool):
        self.count, self._path, self._limit, self._length, self._resume = count, path, limit, length, resume
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "ErrorRows":
        if self._path:
            path = Path(self._path)
            if not self._resume and path.exists() and path.stat().st_size:
                raise InputError(f"--errors {path} exists already. Move it, or name another file.")
            if self._length > (path.stat().st_size if path.exists() else 0):
                raise InputError(f"--errors {path} has lost rows since the run broke off. Restore it, or begin again.")
            with explained(path):
                self._file = path.open("r+b" if self._length else "wb")
                self._file.truncate(self._length)
                self._file.seek(self._length)
        return self

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Count and copy those of the rows that have an error.

        Raises:
            InputError: they are more than the limit.
        """
        bad = [row for row in rows if row["error"] is not None]
        self.count += len(bad)
        if self._file and bad:
            with explained(self._path):
                self._file.write(
                    "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in bad).encode(
                        "utf-8", "replace"
                    )
                )
                self._file.flush()
        if self._limit is not None and self.count > self._limit:
            raise InputError(
                f"{self.count:,} rows have an error, more than the {self._limit:,} of --max-errors. The last: "
                f"{bad[-1]['error']} ({bad[-1]['document_id']}). Mend the input, or go on with a higher --max-errors and --resume."
            )

    @property
    def bytes_written(self) -> int:
        """Length of the file so far."""
        return self._file.tell() if self._file else 0

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()
