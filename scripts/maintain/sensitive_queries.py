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

from common.bench.benchmark import parse_before_words
from common.errors import run_main
from common.files import write_json
from common.paths import ROOT
from common.run.batching import converted
from common.run.event_arguments import event_training_arguments
from common.run.event_training import EVENTS
from common.run.state import read_state
from common.run.training import schedule_of

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
    loss = model.loss(converted(replace(batch, loss_weights=weights), device.from_numpy), 0.0)
    return float(loss.detach()), torch.autograd.grad(loss, [parameter for name, parameter in model.named_parameters()
                                                            if parameter.requires_grad and name != "heads.bias"])


def hidden_states(device, model, batch):
    """Returns the output of each layer on a QueryBatch, ``(count, width)``."""
    found, hooks = [], [layer.register_forward_hook(lambda module, inputs, output: found.append(output.detach()))
                        for layer in model.bert.layers]
    with device.no_gradients():
        model.loss(converted(batch, device.from_numpy), 0.0)
    for hook in hooks:
        hook.remove()
    return found


def train_apart(arguments, plan, begun, runs, options):
    """Trains two Steps until the losses of a step differ; both then have the weights from before that step.

    Returns:
        The step's number, its QueryBatch, the gap of its losses, and the largest before; None where they do not part.
    """
    rate, largest = schedule_of(arguments, plan.last_step), 0.0
    for step, (_, _, batch) in zip(range(begun + 1, begun + options.steps + 1),
                                   EVENTS.batches(arguments, plan.train_rows, begun)):
        before = [steps.state() for steps in runs]
        losses = [float(steps.train(batch, rate(step - 1), True)) for steps in runs]
        gap = abs(losses[0] / losses[1] - 1)
        print(f"step {step}: loss {losses[0]:.4f}, gap {gap:.1e}", flush=True)
        if gap > options.gap:
            for steps, state in zip(runs, before):
                steps.load_state(state)
            return step, batch, gap, largest
        largest = max(largest, gap)
    return None


def main(argv):
    """Trains two copies until they part, and writes what is behind it; returns 1 where they do not part."""
    parser = argparse.ArgumentParser(prog="sensitive_queries.py", description=__doc__.split("\n")[0])
    parser.add_argument("--state", required=True, help="state.STEP.safetensors of the training")
    parser.add_argument("--output", required=True, help="JSON file for what was found")
    parser.add_argument("--gap", type=float, default=1e-5, help="relative difference of a step's losses")
    parser.add_argument("--steps", type=int, default=1000, help="at most")
    options, flags = parse_before_words(parser, argv)
    sys.path.insert(1, str(ROOT / "NLG_pytorch" / "src"))
    import torch

    import bert_eae_ft
    import device

    arguments = event_training_arguments(flags, "")
    plan, state = EVENTS.plan(arguments), read_state(options.state)
    device.set_up(arguments.device, arguments.random_seed, arguments.precision)
    weights, values = bert_eae_ft.first_event_weights(arguments), state.arrays["values"]
    models = [bert_eae_ft.build_model(arguments, weights) for _ in range(2)]
    runs = [bert_eae_ft.build_steps(arguments, model) for model in models]
    noise = PERTURBATION * np.random.RandomState(1).standard_normal(values.shape)
    for steps, start in zip(runs, (values, (values * (1 + noise)).astype(np.float32))):
        steps.load_state({**state.arrays, "values": start})
    parted = train_apart(arguments, plan, state.progress.step, runs, options)
    if parted is None:
        print("no step parts them", file=sys.stderr)
        return 1
    step, batch, gap, largest = parted
    queries = []
    for query in range(len(batch.loss_weights)):
        alone = batch.loss_weights * (np.arange(len(batch.loss_weights)) == query)
        (loss, first), (_, second) = (gradients(torch, device, model, batch, alone) for model in models)
        queries.append({"query": query, "loss": loss, "gradients_apart": relative(first, second)})
    worst = max(queries, key=lambda query: query["gradients_apart"])["query"]
    begin, stop = batch.offsets[worst:worst + 2].tolist()
    apart = [(one - other).abs().cpu().numpy() for one, other in
             zip(*(hidden_states(device, model, batch) for model in models))]
    write_json(options.output, {
        "state": state.progress.step, "step": step, "gap": gap, "largest_gap_before": largest, "worst_query": worst,
        "tokens": batch.input_ids[begin:stop].tolist(), "queries": queries,
        "layers": [{"worst_query": float(each[begin:stop].max()), "token": int(each[begin:stop].max(1).argmax()),
                    "dimension": int(each[begin:stop].max(0).argmax()),
                    "other_queries": float(np.delete(each, np.s_[begin:stop], 0).max())} for each in apart]})
    print(f"step {step}: query {worst}'s gradients are {queries[worst]['gradients_apart']:.1e} apart, the others' "
          f"{max(each['gradients_apart'] for each in queries if each['query'] != worst):.1e} at most")
    return 0


if __name__ == "__main__":
    run_main(main)
