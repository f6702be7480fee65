"""Trains BERT for some steps in one tree and writes what align's comparison reads.

    python -m tests.alignment.train_events FRAMEWORK OUTPUT FOLDER RANK PRECISION STEPS

FOLDER has the demo events. The steps are those of bert_eae_ft.py, with dropout: LoRA's from MiniLM or, where it is not
installed, from random weights; those of all weights, for a rank of 0, and all in fp64, which takes its time on a
processor, of a small model. Then again with the first array one unit in the last place apart.
"""

import itertools
import sys
from functools import partial
from pathlib import Path

import numpy as np

from common.align.collect import next_up
from common.align.dump import prefixed, write_dump
from common.model.bert_cards import BertCard, is_trained
from common.model.bert_files import package_folder
from common.model.initial_weights import RANDOM
from common.paths import ROOT
from common.run.event_arguments import event_training_arguments
from common.run.event_training import EVENTS, first_event_weights
from common.run.training import schedule_of

SMALL = BertCard("bert.minilm", 48, 3, 4, "")  # under a name that a checkpoint's record can have


def main(framework, output, folder, rank, precision, count):
    sys.path.insert(1, str(ROOT / f"NLG_{framework}" / "src"))
    if framework == "jittor":
        import jittor_setup  # noqa: F401
    import device
    from bert_eae_ft import build_model, build_steps
    from lora import trained_state_dict

    data, count = Path(folder), int(count)
    arguments = event_training_arguments(
        ["--train_data", str(data / "train.json"), "--valid_data", str(data / "dev.json"), "--work_dir",
         output + ".run",
         "--lora_dim", rank, "--lr", "1e-3" if rank != "0" else "1e-4", "--train_batch_size", "4", "--max_step",
         str(count), "--warmup_step", "10", "--device", "cpu",
         *(["--init_checkpoint", RANDOM] if package_folder() is None else [])], "")
    if arguments.lora.rank == 0 or precision == "fp64":
        arguments.card, arguments.backbone_path = SMALL, RANDOM
    device.set_up("cpu", arguments.random_seed, precision)
    batches = [batch for _, _, batch in itertools.islice(EVENTS.batches(
        arguments, EVENTS.plan(arguments).train_rows, 0), count)]
    rate, first = schedule_of(arguments, count), first_event_weights(arguments)
    chosen = partial(is_trained, rank=arguments.lora.rank, heads=arguments.heads)
    name = next(name for name in first if chosen(name) and name.endswith(("lora_A", "word.weight")))
    nudged = {**first, name: next_up(first[name], precision)}
    # A softmax over places does not see what is added to all of them: these two biases have rounding for a gradient.
    unseen = {"heads.bias", f"bert.layers.{arguments.card.layers - 1}.feed_forward.norm.bias"}
    arrays = {}
    for prefix, weights in (("", first), ("nudged_", nudged)):
        model = build_model(arguments, weights)
        steps = build_steps(arguments, model)
        arrays[f"steps/{prefix}losses"] = np.array([float(steps.train(batch, rate(step), True))
                                                    for step, batch in enumerate(batches)])
        arrays.update(prefixed(f"steps/{prefix}weights/", trained_state_dict(
            model, lambda name: chosen(name) and name not in unseen)))
    write_dump(output, arrays, {})


if __name__ == "__main__":
    main(*sys.argv[1:])
