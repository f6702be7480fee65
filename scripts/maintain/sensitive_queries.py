"""Finds the step at which two trainings of event arguments part that differ in rounding alone, and the query behind it.

    python scripts/maintain/sensitive_queries.py --state STATE --output log/eae/sensitive_queries.json -- FLAGS

FLAGS are those of bert_eae_ft.py that the training of the state had. The PyTorch tree goes on from it twice, once with
the trained weights changed by 1e-7 of their size, until the losses of a step differ by more than --gap. For that step
it says of each query how much its gradient differs, and of the worst one how far its hidden states are apart.
"""

import argparse
import sys
from dataclasses import replace

import numpy as np

from common.errors import run_main
from common.files import write_json
from common.paths import ROOT
from common.run.batching import converted
from common.run.event_arguments import event_training_arguments
from common.run.event_training import EVENTS
from common.run.schedule import make_schedule
from common.run.state import read_state

PERTURBATION = 1e-7


def relative(first, second):
    """Returns the norm of the difference over the norm of the first, of two lists of tensors."""
    difference = sum(float(((one - other) ** 2).sum()) for one, other in zip(first, second)) ** 0.5
    return difference / max(sum(float((one ** 2).sum()) for one in first) ** 0.5, 1e-30)


def gradients(torch, device, model, batch, weights):
    """Returns the loss of a QueryBatch with these weights of its losses, and its gradients.

    That of the heads' bias is left out: it is rounding alone.
    """
    model.train()
    named = [(name, each) for name, each in model.named_parameters() if each.requires_grad and name != "heads.bias"]
    loss = model.loss(converted(replace(batch, loss_weights=weights), device.from_numpy), 0.0)
    return float(loss.detach()), torch.autograd.grad(loss, [each for _, each in named])


def hidden_states(device, model, batch):
    """Returns the output of each layer on a QueryBatch, ``(count, width)``."""
    found, hooks = [], [layer.register_forward_hook(lambda module, inputs, output: found.append(output.detach()))
                        for layer in model.bert.layers]
    with device.no_gradients():
        model.loss(converted(batch, device.from_numpy), 0.0)
    for hook in hooks:
        hook.remove()
    return found


def main(argv):
    """Trains two copies until they part, and writes what is behind it; returns 1 where they do not part."""
    parser = argparse.ArgumentParser(prog="sensitive_queries.py", description=__doc__.split("\n")[0])
    parser.add_argument("--state", required=True, help="state.STEP.safetensors of the training")
    parser.add_argument("--output", required=True, help="JSON file for what was found")
    parser.add_argument("--gap", type=float, default=1e-5, help="relative difference of a step's losses")
    parser.add_argument("--steps", type=int, default=1000, help="at most")
    end = argv.index("--") if "--" in argv else len(argv)
    options = parser.parse_args(argv[:end])
    sys.path.insert(1, str(ROOT / "NLG_pytorch" / "src"))
    import torch

    import bert_eae_ft
    import device

    arguments = event_training_arguments(argv[end + 1:], "")
    plan, state = EVENTS.plan(arguments), read_state(options.state)
    device.set_up(arguments.device, arguments.random_seed, arguments.precision)
    runs = []
    for change in (0.0, PERTURBATION):
        model = bert_eae_ft.build_model(arguments, bert_eae_ft.first_event_weights(arguments))
        steps, arrays = bert_eae_ft.build_steps(arguments, model), dict(state.arrays)
        noise = np.random.RandomState(1).standard_normal(arrays["values"].shape)
        steps.load_state({**arrays, "values": (arrays["values"] * (1 + change * noise)).astype(np.float32)})
        runs.append((model, steps))
    rate = make_schedule(arguments.scheduler, arguments.lr, arguments.warmup_step, plan.last_step)
    largest_before = 0.0
    begun = state.progress.step
    for step, (_, _, batch) in zip(range(begun + 1, begun + options.steps + 1),
                                   EVENTS.batches(arguments, plan.train_rows, begun)):
        before = [[each.detach().clone() for each in model.parameters() if each.requires_grad] for model, _ in runs]
        losses = [float(steps.train(batch, rate(step - 1), True)) for _, steps in runs]
        gap = abs(losses[0] / losses[1] - 1)
        print(f"step {step}: loss {losses[0]:.4f}, gap {gap:.1e}", flush=True)
        if gap > options.gap:
            break
        largest_before = max(largest_before, gap)
    else:
        print("no step parts them", file=sys.stderr)
        return 1
    for (model, _), values in zip(runs, before):
        for parameter, value in zip((each for each in model.parameters() if each.requires_grad), values):
            parameter.data.copy_(value)
    queries = []
    for query, weight in enumerate(batch.loss_weights):
        weights = np.where(np.arange(len(batch.loss_weights)) == query, weight, 0).astype(np.float32)
        (loss, first), (_, second) = (gradients(torch, device, model, batch, weights) for model, _ in runs)
        queries.append({"query": query, "loss": loss, "gradients_apart": relative(first, second)})
    worst = max(queries, key=lambda query: query["gradients_apart"])["query"]
    begin, stop = batch.offsets[worst:worst + 2].tolist()
    apart = [(one - other).abs().cpu().numpy() for one, other in
             zip(*(hidden_states(device, model, batch) for model, _ in runs))]
    found = {"state": begun, "step": step, "gap": gap, "largest_gap_before": largest_before, "worst_query": worst,
             "tokens": batch.input_ids[begin:stop].tolist(), "queries": queries,
             "layers": [{"worst_query": float(each[begin:stop].max()), "token": int(each[begin:stop].max(1).argmax()),
                         "dimension": int(each[begin:stop].max(0).argmax()),
                         "other_queries": float(np.delete(each, np.s_[begin:stop], 0).max())} for each in apart]}
    write_json(options.output, found)
    print(f"step {step}: query {worst}'s gradients are {queries[worst]['gradients_apart']:.1e} apart, the others' "
          f"{max(each['gradients_apart'] for each in queries if each['query'] != worst):.1e} at most")
    return 0


if __name__ == "__main__":
    run_main(main)
