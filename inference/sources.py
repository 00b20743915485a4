"""Which files to read, how they are packed, and in which encoding."""

import codecs
import gzip
import io
import lzma
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from policy_tagger.inference.errors import InputError

FORMATS = {
    ".txt": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
PACKED = (".gz", ".xz", ".zst")  # may follow any ending but .parquet, which is packed inside
STREAM = "-"  # standard input, and in batch.py output
BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError)  # what a damaged packed file raises
UNDECODED = re.compile("[\udc80-\udcff]")  # what stands for bytes that are not of the file's encoding


@dataclass(frozen=True)
class Source:
    """One input file."""

    path: Path
    format: str
    name: str
    """As the user gave it; in messages and document ids."""

    def open(self) -> BinaryIO:
        """The file's bytes, unpacked."""
        suffix = self.path.suffix.lower()
        if suffix == ".gz":
            return cast(BinaryIO, gzip.open(self.path))
        if suffix == ".xz":
            return cast(BinaryIO, lzma.open(self.path))
        if suffix == ".zst":
            import pyarrow as pa

            packed: Any = pa.input_stream(str(self.path), compression="zstd")
            return cast(BinaryIO, io.BufferedReader(packed, 1 << 16))
        return self.path.open("rb")

    def open_text(self, newline: str | None = None) -> TextIO:
        """The file's text in its encoding; bytes that are not of it come as UNDECODED.

        Raises:
            InputError: as `detect_encoding`.
        """
        encoding = detect_encoding(self)
        return io.TextIOWrapper(self.open(), encoding, errors="surrogateescape", newline=newline)


def find_sources(inputs: Sequence[str], input_format: str | None, stack: ExitStack) -> list[Source]:
    """The files behind paths, folders and `-`.

    Args:
        input_format: For standard input; text where None.
        stack: Removes the temporary copy of standard input when it closes.

    Raises:
        InputError: listing every missing path, unknown extension, and folder without readable files.
    """
    sources: list[Source] = []
    problems = []
    if input_format and STREAM not in inputs:
        problems.append(f"--input-format is for standard input ({STREAM}); a file's ending says what it is.")
    if inputs.count(STREAM) > 1:
        raise InputError("Standard input (-) can be named once.")
    for name in inputs:
        path = Path(name)
        if name == STREAM:
            sources.append(_standard_input(input_format or "text", stack, guessed=input_format is None))
        elif path.is_dir():
            found = [p for p in sorted(path.rglob("*")) if _format(p) and p.is_file()]
            sources += [Source(p, _format(p), _printable(p.as_posix())) for p in found]
            if not found:
                problems.append(f"{name} must hold files ending in {_endings()}. Found none.")
        elif not path.exists():
            problems.append(f"{name} must be an existing file or folder. Found nothing there.")
        elif not _format(path):
            problems.append(f"{name} must end in one of {_endings()}. Found '{path.suffix or 'no ending'}'.")
        elif path.stat().st_size == 0:
            problems.append(f"{name} must have content. Found an empty file.")
        else:
            sources.append(Source(path, _format(path), _printable(path.as_posix())))
    if problems:
        raise InputError(problems)
    return sources


def read_text(source: Source) -> str:
    """A text file's content.

    Raises:
        InputError: not UTF-8 or CP949, or the packed file is damaged.
    """
    encoding = detect_encoding(source)
    try:
        with source.open() as file:
            return str(file.read(), encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source.name} must be UTF-8 or CP949 text throughout. Byte {error.start:,} is neither. Save the file again as UTF-8."
        ) from None
    except BROKEN as error:
        raise InputError(f"{source.name} must be a whole packed file: {error}. Pack it again.") from None


def detect_encoding(source: Source) -> str:
    """`utf-8-sig` (with or without a byte order mark) or `cp949`, found by decoding the whole file; where neither fits
    throughout, the one that fits longer.

    Raises:
        InputError: neither fits the first line, or the file cannot be unpacked at all.
    """
    try:
        with source.open() as file:
            head = file.read(4096)
    except BROKEN as error:
        raise InputError(f"{source.name} must be what its ending says: {error}. Pack or save it again.") from None
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or head.count(0) > len(head) // 5:
        raise InputError(f"{source.name} must be UTF-8 or CP949 text. Found UTF-16. Save the file again as UTF-8.")
    reached = {}
    for encoding in ("utf-8-sig", "cp949"):
        line = _first_undecodable_line(source, encoding)
        if line is None:
            return encoding
        reached[encoding] = line
    best = max(reached, key=reached.__getitem__)
    if reached[best] == 1:
        raise InputError(f"{source.name} must be UTF-8 or CP949 text. Line 1 is neither. Save the file again as UTF-8.")
    return best


def _first_undecodable_line(source: Source, encoding: str) -> int | None:
    """From 1; None where all that can be unpacked is of the encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    with source.open() as file:
        while block := _block(file):
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                return line + block[: error.start].count(b"\n")
            line += block.count(b"\n")
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return line
    return None


def _block(file: BinaryIO) -> bytes:
    try:
        return file.read(1 << 20)
    except BROKEN:  # reading the rows will say so, behind the last row that can be had
        return b""


def _format(path: Path) -> str:
    """The format that a file's name says, or nothing."""
    name = path.name.lower()
    ending = next((ending for ending in PACKED if name.endswith(ending)), "")
    found = FORMATS.get(Path(name.removesuffix(ending)).suffix, "")
    return "" if ending and found == "parquet" else found


def _endings() -> str:
    return f"{', '.join(FORMATS)} (or packed: .jsonl.gz, .csv.xz, .txt.zst …)"


def _printable(name: str) -> str:
    """A file name without the stand-ins for bytes that are not UTF-8."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _standard_input(input_format: str, stack: ExitStack, guessed: bool) -> Source:
    if sys.stdin is None:
        raise InputError("Standard input must be open. Found it closed.")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="policy-tagger-")))
    path = folder / "stdin"
    with path.open("wb") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
    if path.stat().st_size == 0:
        raise InputError("Standard input must have content. Found nothing.")
    with path.open("rb") as file:
        if guessed and re.match(rb"(\xef\xbb\xbf)?\s*\{\s*\"", file.read(256)):
            raise InputError("Standard input looks like JSON lines. Say so with --input-format jsonl.")
    return Source(path, input_format, "stdin")
