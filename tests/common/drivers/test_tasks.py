"""Each task's hyper-parameters under each preset."""

import pytest

from common.drivers.tasks import PRESETS, TASKS, as_words, beam_flags, training_flags
from common.run.arguments import beam_arguments, training_arguments


@pytest.mark.parametrize("preset", list(PRESETS))
def test_the_presets_are_valid_command_lines(preset):
    for task in TASKS.values():
        for card in ("gpt2.nano", "gpt2.md"):
            words = ["--train_data", "t", "--valid_data", "v", "--init_checkpoint", "c", "--model_card", card]
            flags = training_flags(task, preset, card)
            arguments = training_arguments([*words, *as_words(flags)], "")
            assert {name: getattr(arguments, name) for name in ("lr", "lora_dropout", "max_epoch")} == {
                name: flags[name] for name in ("lr", "lora_dropout", "max_epoch")}
            beam = as_words(beam_flags(task, preset))
            assert beam_arguments(["--data", "d", "--init_checkpoint", "c", "--model_card", card, *beam], "").beam == (
                4 if task.data_name == "squad" else 10)


def test_the_papers_hyper_parameters():
    """Hu et al. 2021, appendix D.3, table 11: of training, then what differs between the sets, then of beam search."""
    decay_dropout_smoothing = {"e2e": (.01, .1, .1), "webnlg": (.01, .1, .1), "dart": (0, 0, 0)}
    length_penalty = {"e2e": .9, "webnlg": .8, "dart": .8}
    for task, regularisation in decay_dropout_smoothing.items():
        flags = training_flags(TASKS[task], "paper", "gpt2.md")
        assert (flags["lr"], flags["warmup_step"], flags["max_epoch"], flags["train_batch_size"]) == (2e-4, 500, 5, 8)
        assert (flags["lora_dim"], flags["lora_alpha"]) == (4, 32)
        assert (flags["weight_decay"], flags["lora_dropout"], flags["label_smooth"]) == regularisation, task
        beam = beam_flags(TASKS[task], "paper")
        assert (beam["beam"], beam["no_repeat_ngram_size"], beam["length_penalty"]) == (10, 4, length_penalty[task])


def test_squad_is_trained_as_e2e_but_on_all_matrices():
    """SQuAD is not in the paper."""
    flags = [training_flags(TASKS[task], "paper", "gpt2.md") for task in ("e2e", "squad")]
    assert flags[1] == {**flags[0], "lora_targets": "q,k,v,o,fc,proj"}


def test_gpt2_nano_has_rates_of_its_own():
    rates = {task: training_flags(TASKS[task], "demo", "gpt2.nano")["lr"] for task in TASKS}
    assert rates == {"e2e": .001, "webnlg": .0007, "dart": .001, "squad": .0003}
