"""A run of beam search: weights with LoRA merged into them, each distinct context once, one line a row."""

import contextlib
import os
import sys
import time

from tqdm import tqdm

from common.errors import note
from common.files import check_outputs, is_stream, say_written, write_json, write_json_lines
from common.model.checkpoint import load_weights
from common.model.lora_arrays import merge_lora
from common.run import processes
from common.run.batching import read_rows
from common.run.beam_search import SearchSettings, search
from common.run.partial_search import ENDING, Nothing, PartialSearch, alone_with, digest_of_search


def load_merged(arguments):
    """Returns ``{name: float32 array}`` of the plain model, LoRA's weights merged into the backbone's.

    Args:
        arguments: of common.run.arguments.beam_arguments.

    Raises:
        UserError: the weights cannot be used.
    """
    backbone, lora, record = load_weights(arguments.init_checkpoint, arguments.lora_checkpoint, arguments.card,
                                          arguments.lora)
    if lora is None and record is None:  # the record of a file without any says that all its weights were trained
        note(f"no LoRA arrays in {arguments.init_checkpoint}: decoding with the backbone alone")
    return merge_lora(backbone, lora or {}, arguments.lora)


def distinct_contexts(rows, longest):
    """Groups rows of equal context.

    Args:
        rows: list of Row.
        longest: a longer context keeps its last tokens.

    Returns:
        List of the distinct contexts in order of first appearance, and for each row the index of its context.
    """
    return distinct([row.context[-longest:] for row in rows])


def distinct(contexts):
    """Returns the distinct ones of lists of token ids in order of first appearance, and for each list its index."""
    indices, of_row = {}, []
    for context in contexts:
        of_row.append(indices.setdefault(tuple(context), len(indices)))
    return [list(context) for context in indices], of_row


def say_what_is_cut(rows, longest, path):
    """Says how many rows have a context of which only the end is read, and how many contexts that makes the same."""
    cut = sum(len(row.context) > longest for row in rows)
    if cut:
        whole, searched = (len(distinct_contexts(rows, length)[0]) for length in (sys.maxsize, longest))
        same = f"; so {whole} distinct contexts become {searched}" if searched < whole else ""
        note(f"{path}: {cut} of {len(rows)} rows have a context of more than {longest} tokens, --seq_len less "
             f"--eval_len, of which only the end is read{same}")


def search_contexts(model, contexts, settings, batch_size, partial=None):
    """Searches contexts, of which those of similar length share a batch; the processes share the batches.

    Args:
        model: SearchModel.
        contexts: list of lists of token ids.
        settings: SearchSettings.
        batch_size: so many are searched at once.
        partial: PartialSearch with the batches that need not be searched again, or None.

    Returns:
        Two lists in the order of the contexts: the best hypothesis of each, an int array, and its score.
    """
    partial = partial or Nothing()
    by_length = sorted(range(len(contexts)), key=lambda index: len(contexts[index]))
    batches = [by_length[start:start + batch_size] for start in range(0, len(by_length), batch_size)]
    waiting = [number for number in range(len(batches)) if number not in partial.finished]
    found = {}
    with tqdm(total=len(contexts), initial=sum(len(batches[number]) for number in partial.finished), unit="context",
              dynamic_ncols=True, disable=None, file=sys.stderr) as bar:
        for place, number in enumerate(waiting):
            if place % processes.count() == processes.rank():
                outputs, scores = search(model, [contexts[index] for index in batches[number]], settings)
                found[number] = outputs, [float(score) for score in scores]
                partial.add(number, *found[number])
            bar.update(len(batches[number]))
    found = dict(partial.finished) | {number: batch for others in processes.gather(found)
                                      for number, batch in others.items()}
    of_context = {index: pair for number, chosen in enumerate(batches)
                  for index, pair in zip(chosen, zip(*found[number]))}
    return [list(of_one) for of_one in zip(*map(of_context.get, range(len(contexts))))]


def search_rows(arguments, model, rows, path, is_kept=False):
    """Searches all distinct contexts of some rows; the first process writes one line a row to ``path``.

    Each line is ``{"id": row, "predict": eval_len ids, padded with 0}``.

    Args:
        is_kept: whether what is found is kept beside ``path`` until that is complete, and is used where it is there.

    Returns:
        ``{"rows": count, "contexts": count, "seconds": time}``.
    """
    started = time.perf_counter()
    contexts, context_of_row = distinct_contexts(rows, arguments.seq_len - arguments.eval_len)
    settings = SearchSettings.of(arguments)
    partial = PartialSearch(path, digest_of_search(arguments, model, contexts, settings)) if is_kept else None
    before = 0.0
    if partial and partial.finished:
        before = partial.seconds
        print(f"going on behind {len(partial.finished)} of {-(-len(contexts) // arguments.batch_size)} batches of "
              f"contexts, from {path}{ENDING}", file=sys.stderr)
    found, _ = search_contexts(model, contexts, settings, arguments.batch_size, partial)
    outputs = [output.tolist() for output in found]
    if processes.is_first():
        write_json_lines(path, ({"id": row,
                                 "predict": outputs[context] + [0] * (settings.eval_len - len(outputs[context]))}
                                for row, context in enumerate(context_of_row)))
    if partial:
        partial.remove()
    return {"rows": len(rows), "contexts": len(contexts), "seconds": before + time.perf_counter() - started}


def run_search(arguments, prepare):
    """Searches and writes the output file and a summary beside it.

    A search that was cut off goes on behind the batches of contexts that it had finished.

    Args:
        arguments: of common.run.arguments.beam_arguments.
        prepare: ``(arguments) -> SearchModel``; it is called when nothing else is left to be found wrong.

    Raises:
        UserError: the data or the weights cannot be used, the output cannot be written, or another search writes there.
    """
    path = os.path.join(arguments.work_dir, arguments.output_file)
    is_file = not is_stream(path)
    beside = [path + ".summary.json", path + ENDING] if is_file else []  # beside a pipe or a device there is nothing
    if processes.is_first():
        check_outputs([path, *beside], [arguments.data, arguments.init_checkpoint, arguments.lora_checkpoint])
    rows = read_rows(arguments.data)
    say_what_is_cut(rows, arguments.seq_len - arguments.eval_len, arguments.data)
    model = prepare(arguments)
    with alone_with(path) if is_file else contextlib.nullcontext():
        counts = search_rows(arguments, model, rows, path, is_kept=is_file)
        if is_file and processes.is_first():
            write_json(beside[0], {**model.description, "processes": processes.count(), **counts,
                                   "peak_memory_bytes": model.peak_memory_bytes()})
    say_written(path, f"{counts['rows']} rows, {counts['contexts']} distinct contexts in {counts['seconds']:.1f} s: "
                      f"{path}")
