"""Output that survives anything: part files that are whole or absent, a journal of them, and going on where a run broke off."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

from policy_tagger.inference.errors import InputError
from policy_tagger.inference.files import UNFINISHED, read_json, write_json
from policy_tagger.inference.writers import RowWriter, join_files, open_writer

PART_ROWS = 16_384  # about ten seconds of work, which is what a kill can cost
MANIFEST = "manifest.json"
JOURNAL = "journal"  # one line a part; becomes the manifest's list when the run is complete
LOCK = ".lock"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Summary:
    """What a run, or a part of it, did."""

    documents: int = 0
    sentences: int = 0
    errors: int = 0
    """Rows with an error."""
    truncated: int = 0
    """Sentences whose end the model did not see."""

    def __add__(self, other: "Summary") -> "Summary":
        return Summary(**{name: value + vars(other)[name] for name, value in vars(self).items()})


@dataclass(frozen=True)
class Part:
    """One part file that is there for good."""

    name: str
    rows: int
    summary: Summary
    error_bytes: int = 0
    """Length of the error file once the part was there."""


class PartFiles:
    """A folder of part files.

    A part is written under another name, synced, renamed and only then noted in the journal, so that a kill at any point costs the
    part at hand and nothing else. A part depends on its own documents alone, so a run that goes on writes what an uninterrupted one would.

    Args:
        folder: Created where missing; its parent must exist.
        run: What decides the output: model, options, inputs. A run goes on only where all of it is the same.
        output_format: `jsonl`, `csv`, `tsv` or `parquet`.
        types: Column → Arrow type.
        resume: Go on with the parts that are there.
        target: The one file that the parts become when all are there; None to keep them.
    """

    def __init__(
        self,
        folder: Path,
        run: Mapping[str, Any],
        output_format: str,
        types: Mapping[str, Any],
        resume: bool,
        target: Path | None,
    ):
        self.folder = folder
        self.target = target
        self.summary = Summary()
        self.error_bytes = 0
        self.is_complete = False
        self._run, self._format, self._types, self._resume = dict(run), output_format, types, resume
        self.parts: list[Part] = []
        self._writer: PartWriter | None = None

    def __enter__(self) -> "PartFiles":
        if not self.folder.parent.is_dir():
            raise InputError(f"{self.folder.parent} must be an existing folder. Create it, or name another with -o.")
        with self._explained():
            self.folder.mkdir(exist_ok=True)
        self._lock = self._acquire()
        try:
            with self._explained():
                self._begin_or_go_on()
        except BaseException:
            self._release()
            raise
        return self

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Append rows to the part at hand."""
        with self._explained():
            if self._writer is None:
                name = part_name(len(self.parts), self._format)
                self._writer = PartWriter(self.folder, name, self._format, self._types)
            self._writer.write(rows)

    def commit(self, summary: Summary, error_bytes: int) -> None:
        """Put the part at hand in place, for good.

        Args:
            summary: Of the part.
            error_bytes: Length of the error file with this part.
        """
        if self._writer is None:
            return  # nothing since the last part
        with self._explained():
            self._writer.put_in_place()
        self.note(Part(self._writer.name, self._writer.rows, summary, error_bytes))
        self._writer = None

    def note(self, part: Part) -> None:
        """Remember a part file that is in place."""
        with self._explained(), (self.folder / JOURNAL).open("ab") as journal:
            journal.write(json.dumps(asdict(part)).encode() + b"\n")
            _sync(journal)
        self.parts.append(part)
        self.summary += part.summary

    def complete(self) -> None:
        """Say in the manifest that all is there; join the parts where one file was asked for."""
        with self._explained():
            if not self.is_complete:
                if not self.parts:  # no input rows: an empty file with the right columns
                    self.write([])
                    self.commit(Summary(), 0)
                parts = [{"name": part.name, "rows": part.rows} for part in sorted(self.parts, key=lambda p: p.name)]
                self._write_manifest(complete=True, **asdict(self.summary), parts=parts)
                self.is_complete = True
            (self.folder / JOURNAL).unlink(missing_ok=True)
            if self.target:
                manifest = read_json(self.folder / MANIFEST)
                names = [part["name"] for part in manifest.pop("parts")]
                joined = self.folder / "joined"
                join_files([self.folder / name for name in names], joined, self._format, self._types)
                write_json(self.target.with_name(self.target.name + ".manifest.json"), manifest)
                joined.replace(self.target)

    def __exit__(self, *_: object) -> None:
        if self._writer:
            self._writer.discard()
        is_joined = self.is_complete and self.target is not None
        if is_joined or not (self.parts or self.is_complete):
            shutil.rmtree(self.folder, ignore_errors=True)
        self._release()

    @property
    def next_step(self) -> str:
        """What to do after the run broke off."""
        if not self.parts:
            return ""
        rows = sum(part.rows for part in self.parts)
        return f"{rows:,} rows are safe in {self.folder}; go on with the same command and --resume."

    def _acquire(self) -> Any:
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / LOCK)
        try:
            return lock.acquire(timeout=0)
        except Timeout:
            raise InputError(
                f"{self.folder} is being written by another run. Wait for it, or name another place with -o."
            ) from None

    def _release(self) -> None:
        with suppress(OSError):
            (self.folder / LOCK).unlink()
        self._lock.lock.release()

    def _begin_or_go_on(self) -> None:
        if not (self.folder / MANIFEST).exists():
            ours = (LOCK, MANIFEST + UNFINISHED)
            strangers = sorted(path.name for path in self.folder.iterdir() if path.name not in ours)
            if strangers:
                raise InputError(
                    f"{self.folder} must be empty or a run's own folder. Found {strangers[0]}. Name another with -o."
                )
            self._write_manifest(complete=False)
            return
        manifest = read_json(self.folder / MANIFEST)
        if not self._resume:
            state = "finished predictions" if manifest.get("complete") else "a run that broke off"
            step = "Name another place with -o" if manifest.get("complete") else "Go on with it: --resume"
            raise InputError(f"{self.folder} holds {state}. {step}, or remove the folder.")
        changes = _changes(manifest.get("run", {}), json.loads(json.dumps(self._run)))
        if changes:
            raise InputError(
                f"{self.folder} cannot be gone on with: {'; '.join(changes)}. Restore that, or name another place with -o."
            )
        for leftover in self.folder.glob(f"{UNFINISHED}-*"):  # of runs that were killed
            leftover.unlink()
        self.is_complete = manifest["complete"]
        if self.is_complete:
            self.summary = Summary(**{name: manifest[name] for name in (field.name for field in fields(Summary))})
            return
        self._read_journal()

    def _read_journal(self) -> None:
        journal = self.folder / JOURNAL
        lines = journal.read_bytes().splitlines(keepends=True) if journal.exists() else []
        if lines and not lines[-1].endswith(b"\n"):  # the kill came while it was written
            lines.pop()
            journal.write_bytes(b"".join(lines))
        for line in lines:
            content = json.loads(line)
            self.parts.append(Part(**{**content, "summary": Summary(**content["summary"])}))
        missing = [part.name for part in self.parts if not (self.folder / part.name).exists()]
        if missing:
            raise InputError(f"{self.folder} has lost {missing[0]}. Restore it, or begin again in another folder.")
        self.summary = sum((part.summary for part in self.parts), Summary())
        self.error_bytes = self.parts[-1].error_bytes if self.parts else 0

    def _write_manifest(self, complete: bool, **more: Any) -> None:
        content = {"format": FORMAT_VERSION, "complete": complete, "run": self._run, **more}
        write_json(self.folder / MANIFEST, content)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        with explained(self.target or self.folder, lambda: self.next_step):
            yield


class PartWriter:
    """One part file: under another name until it is whole.

    Args:
        folder: Where it goes.
        name: Its name once it is whole.
    """

    def __init__(self, folder: Path, name: str, output_format: str, types: Mapping[str, Any]):
        self.name, self.rows = name, 0
        self._folder = folder
        self._unfinished = folder / f"{UNFINISHED}-{name}-{os.getpid()}"
        self._stream: IO[bytes] = self._unfinished.open("wb")
        self._writer: RowWriter = open_writer(self._stream, output_format, types)

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Append rows."""
        self._writer.write(rows)
        self.rows += len(rows)

    def put_in_place(self) -> None:
        """Make it durable, then give it its name."""
        self._writer.close()
        _sync(self._stream)
        self._stream.close()
        self._unfinished.replace(self._folder / self.name)
        _sync_folder(self._folder)

    def discard(self) -> None:
        """Close and remove what is not whole."""
        with suppress(OSError, ValueError):  # closing again after a failed write
            self._writer.close()
        with suppress(OSError, ValueError):
            self._stream.close()
        self._unfinished.unlink(missing_ok=True)


def part_name(number: int, output_format: str) -> str:
    """The name of a part file, in the order of the rows."""
    return f"part-{number:05}.{output_format}"


@contextmanager
def explained(place: object, next_step: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Turn what the system says about writing into one line with the next step.

    Raises:
        InputError: instead of OSError; a closed pipe stays what it is.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        step = "Make room." if full else "Close it in other programs, or name another place with -o."
        message = f"{place} could not be written: {error.strerror or error}. {step} {next_step()}"
        raise InputError(message.strip()) from None


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, one phrase each."""
    found = []
    for name in [*before, *(name for name in now if name not in before)]:
        old, new = before.get(name), now.get(name)
        if name == "inputs" and isinstance(old, list) and isinstance(new, list):
            found += _changed_inputs(old, new)
        elif old != new:
            found.append(f"{name} was {old}, now it is {new}")
    return found


def _changed_inputs(old: Sequence[Mapping[str, str]], new: Sequence[Mapping[str, str]]) -> list[str]:
    if [one["name"] for one in old] != [one["name"] for one in new]:
        return [f"the inputs were {_names(old)}, now they are {_names(new)}"]
    pairs = zip(old, new, strict=True)
    return [f"the content of {was['name']} has changed" for was, now in pairs if was["sha256"] != now["sha256"]]


def _names(inputs: Sequence[Mapping[str, str]]) -> str:
    shown = ", ".join(one["name"] for one in inputs[:3])
    return f"{shown} … ({len(inputs):,} files)" if len(inputs) > 3 else shown


def _sync(stream: IO[bytes]) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; Windows does that by itself and cannot open folders."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
