"""The same predictions on many machines, through Ray Data: a worker tags one input file at a time."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from policy_tagger.inference.backends import OpenVINOBackend, Precision
from policy_tagger.inference.batch import Job, PredictOptions, open_parts, prepare, tag_sources
from policy_tagger.inference.errors import InputError
from policy_tagger.inference.part_files import Part, PartWriter, Summary, part_name
from policy_tagger.inference.sources import STREAM
from policy_tagger.inference.tagger import PolicyTagger


def predict_on_cluster(
    tagger: PolicyTagger,
    precision: Precision,
    options: PredictOptions,
    workers: int,
    address: str | None,
    on_progress: Callable[[Summary], None] | None = None,
) -> Summary:
    """Tag the inputs on a Ray cluster; the output folder gets one part file an input file, with the rows that one machine would write.

    Inputs, output and the checkpoint must be at the same path on all machines. A worker that is lost is replaced, and its file is tagged
    again; a run that broke off goes on with the files that are not done yet.

    Args:
        tagger: Of this machine; the workers load the same checkpoint.
        workers: Processes that tag, one CPU each.
        address: Of a running cluster (`auto`: the one this machine belongs to); None to start one on this machine.

    Raises:
        InputError: as `predict_files`; also options that only one machine can keep (standard input and output, limits on errors).
    """
    _refuse_what_needs_one_machine(tagger, options)
    import ray

    with ExitStack() as stack:
        job = prepare(tagger, options, stack)
        output = stack.enter_context(open_parts(job, engine="ray"))
        done = {part.name for part in output.parts}
        todo = [number for number in range(len(job.sources)) if part_name(number, job.output_format) not in done]
        if todo and not output.is_complete:
            if not ray.is_initialized():
                ray.init(address=address, num_cpus=None if address else workers, log_to_driver=False)
                stack.callback(ray.shutdown)
            try:
                for part in _parts(todo, job, tagger.checkpoint.folder.resolve(), precision, output.folder, workers):
                    output.note(part)
                    if on_progress:
                        on_progress(output.summary)
            except ray.exceptions.RayError as error:
                reason = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
                raise InputError(f"The cluster gave up: {reason}. {output.next_step}".strip()) from None
        output.complete()
    return output.summary


def _parts(todo: list[int], job: Job, model: Path, precision: Precision, folder: Path, workers: int) -> Iterator[Part]:
    """The part files, as they become ready."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    numbers = ray.data.from_items([{"number": number} for number in todo], override_num_blocks=len(todo))
    written = numbers.map_batches(
        _FileTagger,
        fn_constructor_args=(model, precision, job, folder.resolve()),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(todo))),
        num_cpus=1,
    )
    for row in written.iter_rows():
        summary = Summary(**{name: int(row[name]) for name in vars(Summary())})
        yield Part(str(row["name"]), int(row["rows"]), summary)


class _FileTagger:
    """A worker: number of an input file → its part file, written, and what is in it."""

    def __init__(self, model: Path, precision: Precision, job: Job, folder: Path):
        self._tagger = PolicyTagger.from_pretrained(model, precision, threads=1)
        self._job, self._folder = job, folder

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        job, number = self._job, int(batch["number"][0])
        part = PartWriter(self._folder, part_name(number, job.output_format), job.output_format, job.columns.types)
        summary = Summary()
        try:
            for group in tag_sources([job.sources[number]], job.options, self._tagger, job.columns):
                part.write(group.rows)
                summary += group.summary
            part.put_in_place()
        except BaseException:
            part.discard()
            raise
        return {"name": [part.name], "rows": [part.rows], **{name: [value] for name, value in vars(summary).items()}}


def _refuse_what_needs_one_machine(tagger: PolicyTagger, options: PredictOptions) -> None:
    problems = []
    if STREAM in options.inputs or options.output == STREAM:
        problems.append("--engine ray reads files and writes a folder. Name them instead of standard input and output.")
    elif Path(options.output).suffix:
        problems.append(
            f"--engine ray writes a folder of part files. Got -o {options.output}; name one without an ending."
        )
    if not isinstance(tagger.backend, OpenVINOBackend):
        problems.append("--engine ray computes with OpenVINO. Leave --backend out.")
    if options.errors or options.max_errors is not None:
        problems.append(
            "--errors and --max-errors are for one machine. Select the rows with an `error` from the output."
        )
    if problems:
        raise InputError(problems)
