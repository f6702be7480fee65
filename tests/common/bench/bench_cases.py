"""Made-up results of benchmarks, with round numbers of which ratios are easy to see."""


def made_up(program, system, precision, value, variant="", **more):
    """A case as scripts/bench/bench.py writes it; ``value`` is the ms of a step or the seconds of a pass."""
    case = {"program": program, "system": system, "precision": precision, "variant": variant, "round": 1,
            "model_card": "gpt2.md", "data": "E2E", "on": "cuda", "device": "Some GPU", "driver": "580.1",
            "when": "2026-01-01T00:00:00+0000", "weights": "random weights", "peak_memory_bytes": 3_000_000_000,
            "memory_measured_by": "NVML", "utilisation": 90.0, "import_seconds": 1.0, "build_seconds": 2.0,
            "warm_up_seconds": 3.0, "batch_size": 8,
            "environment": {"framework": system, "version": "1.0", "device": "Some GPU", "precision": precision}}
    if program == "train":
        case |= {"ms_per_step": {"median": value, "p10": 0.9 * value, "p90": 1.1 * value, "mean": value, "count": 40},
                 "ms_per_step_whole_run": value, "processor_ms_per_step": 2.0 * value, "tokens_per_second": 1000.0}
    elif program == "eval":
        case |= {"seconds": value, "rows": 4672}
    else:
        case |= {"seconds": value, "contexts": 630, "contexts_per_second": 630 / value, "decoding_steps": 1280,
                 "beam": 10, "eval_len": 64}
    return {**case, **more}


def full_set():
    """Both trees and the baseline, in two precisions."""
    cases = []
    for precision, factor in (("fp32", 2.0), ("tf32", 1.0)):
        cases += [made_up("train", "pytorch", precision, 10.0 * factor),
                  made_up("train", "jittor", precision, 25.0 * factor),
                  made_up("train", "peft", precision, 40.0 * factor, "padded to the longest row"),
                  made_up("train", "peft", precision, 90.0 * factor, "padded to 512"),
                  made_up("train", "pytorch", precision, 100.0, "every row 512 long", peak_memory_bytes=9e9),
                  made_up("train", "jittor", precision, 200.0, "every row 512 long", peak_memory_bytes=12e9),
                  made_up("eval", "pytorch", precision, 5.0 * factor),
                  made_up("eval", "jittor", precision, 9.0 * factor),
                  made_up("beam", "pytorch", precision, 50.0 * factor),
                  made_up("beam", "jittor", precision, 150.0 * factor),
                  made_up("beam", "peft", precision, 30.0 * factor, contexts=32, contexts_of_the_set=630,
                          seconds_for_the_set=600.0 * factor)]
    return cases
