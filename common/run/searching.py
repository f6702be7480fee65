"""A run of beam search: weights with LoRA merged into them, each distinct context once, one line a row."""

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


def load_merged(arguments):
    """Returns ``{name: float32 array}`` of the plain model, LoRA's weights merged into the backbone's.

    Args:
        arguments: of common.run.arguments.beam_arguments.

    Raises:
        UserError: the weights cannot be used.
    """
    backbone, lora, _ = load_weights(arguments.init_checkpoint, arguments.lora_checkpoint, arguments.card,
                                     arguments.lora)
    if lora is None:
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


def search_contexts(model, contexts, settings, batch_size):
    """Searches contexts, of which those of similar length share a batch; the processes share the batches.

    Args:
        model: SearchModel.
        contexts: list of lists of token ids.
        settings: SearchSettings.
        batch_size: so many are searched at once.

    Returns:
        Two lists in the order of the contexts: the best hypothesis of each, an int array, and its score.
    """
    by_length = sorted(range(len(contexts)), key=lambda index: len(contexts[index]))
    found = {}
    with tqdm(total=len(contexts), unit="context", dynamic_ncols=True, disable=None, file=sys.stderr) as bar:
        for number, start in enumerate(range(0, len(by_length), batch_size)):
            chosen = by_length[start:start + batch_size]
            if number % processes.count() == processes.rank():
                outputs, scores = search(model, [contexts[index] for index in chosen], settings)
                found.update(zip(chosen, zip(outputs, map(float, scores))))
            bar.update(len(chosen))
        for others in processes.gather(found):
            found.update(others)
    return [list(of_one) for of_one in zip(*map(found.get, range(len(contexts))))]


def search_rows(arguments, model, rows, path):
    """Searches all distinct contexts of some rows; the first process writes one line a row to ``path``.

    Each line is ``{"id": row, "predict": eval_len ids, padded with 0}``.

    Returns:
        ``{"rows": count, "contexts": count}``.
    """
    contexts, context_of_row = distinct_contexts(rows, arguments.seq_len - arguments.eval_len)
    settings = SearchSettings.of(arguments)
    found, _ = search_contexts(model, contexts, settings, arguments.batch_size)
    outputs = [output.tolist() for output in found]
    if processes.is_first():
        write_json_lines(path, ({"id": row,
                                 "predict": outputs[context] + [0] * (settings.eval_len - len(outputs[context]))}
                                for row, context in enumerate(context_of_row)))
    return {"rows": len(rows), "contexts": len(contexts)}


def run_search(arguments, prepare):
    """Searches and writes the output file and a summary beside it.

    Args:
        arguments: of common.run.arguments.beam_arguments.
        prepare: ``(arguments) -> SearchModel``; it is called when nothing else is left to be found wrong.

    Raises:
        UserError: the data or the weights cannot be used, or the output cannot be written.
    """
    path = os.path.join(arguments.work_dir, arguments.output_file)
    summary = [] if is_stream(path) else [path + ".summary.json"]  # beside a pipe or a device there is none
    if processes.is_first():
        check_outputs([path, *summary], [arguments.data, arguments.init_checkpoint, arguments.lora_checkpoint])
    rows = read_rows(arguments.data)
    say_what_is_cut(rows, arguments.seq_len - arguments.eval_len, arguments.data)
    model = prepare(arguments)
    started = time.perf_counter()
    counts = search_rows(arguments, model, rows, path)
    seconds = time.perf_counter() - started
    for summary_path in summary if processes.is_first() else []:
        write_json(summary_path, {**model.description, "processes": processes.count(), **counts, "seconds": seconds,
                                  "peak_memory_bytes": model.peak_memory_bytes()})
    say_written(path, f"{counts['rows']} rows, {counts['contexts']} distinct contexts in {seconds:.1f} s: {path}")
