"""Names of chatglm2_ft.py's and chatglm2_generate.py's arguments: flags, or members of one .json file."""

import argparse
import difflib
import os
from typing import Any, NoReturn

from common.checks import shortened
from common.data.chatglm_tokenizer import FILE
from common.errors import UserError, note
from common.files import read_json
from common.model.chatglm_cards import CHATGLM_CARDS
from common.model.chatglm_weights import ChatGLMLora
from common.model.initial_weights import RANDOM
from common.paths import PRETRAINED
from common.precisions import DEFAULT_PRECISION, EXPLANATIONS
from common.run.arguments import given_flags
from common.run.launching import check_alone
from common.run.ranges import RANGES_OF_ALL, check_ranges

# Names that users' configurations have and that nothing here answers to.
ELSEWHERE = "texts are generated and scored by chatglm2_generate.py --test_file, with --lora_checkpoint"
REFUSED = {
    "predict_with_generate": ELSEWHERE, "do_predict": ELSEWHERE,
    "pre_seq_len": "prefix tuning is not offered, LoRA alone", "prefix_projection": "prefix tuning is not offered",
    "quantization_bit": "weights are not quantized; bf16 halves them",
    "fp64": "ChatGLM2 is computed in fp32, tf32, bf16 and fp16 alone; GPT-2's and BERT's programs have fp64",
}
# Names of other programs for what has another name here.
SYNONYMS = {"learning_rate": ("lr",), "lora_r": ("lora_rank", "lora_dim", "r"), "output_dir": ("work_dir",),
            "seed": ("random_seed",), "max_target_length": ("max_length", "max_new_tokens"), "max_grad_norm": ("clip",)}
SCHEDULES = ("linear", "constant", "cosine")


class _Parser(argparse.ArgumentParser):
    """A parser of flags that takes the same names from a .json file, and names the nearest to an unknown one."""

    def __init__(self, description: str) -> None:
        super().__init__(description=description, allow_abbrev=False,
                         formatter_class=argparse.ArgumentDefaultsHelpFormatter,
                         epilog="In place of flags, one argument may be a .json file with the same names.")

    def switch(self, name: str, help: str, default: bool = False) -> None:
        """Adds a flag that is on where it stands alone; ``true`` or ``false`` may follow."""
        self.add_argument(f"--{name}", nargs="?", const=True, default=default, type=_truth, help=help)

    def parse(self, argv: list[str]) -> argparse.Namespace:
        """Parses a command line, or the file that it names; the help says each number's range."""
        for action in self._actions:
            if action.dest in RANGES_OF_ALL:
                action.help = "; ".join(filter(None, [action.help, str(RANGES_OF_ALL[action.dest])]))
        where = ""
        if len(argv) == 1 and argv[0].endswith(".json"):
            where = f"{argv[0]}: "
            argv = [word for name, value in read_json(argv[0], dict).items() for word in _words(argv[0], name, value)]
        for index, word in enumerate(argv):  # before what is missing, for which an unknown name may stand
            is_flag = word.startswith("--") and word.split("=")[0] not in self._option_string_actions
            if is_flag or index == 0 and not word.startswith("-"):
                self.refuse(word, where)
        namespace, rest = self.parse_known_args(argv)
        for word in rest:
            self.refuse(word, where)
        return namespace

    def refuse(self, word: str, where: str) -> NoReturn:
        """Raises a UserError that says why a word is none of the flags."""
        name = word.lstrip("-").split("=")[0]
        if not word.startswith("--"):
            raise UserError(f"{where}{shortened(word)}: expected flags, or one .json file alone")
        if name in REFUSED:
            raise UserError(f"{where}--{name}: {REFUSED[name]}")
        known = [option.lstrip("-") for option in self._option_string_actions]
        near = [here for here, others in SYNONYMS.items() if name in others and here in known]
        near = near or difflib.get_close_matches(name, known, 1, 0.5)
        hint = f"did you mean --{near[0]}? " if near else ""
        raise UserError(f"{where}--{shortened(name)[1:-1]}: no such name; {hint}--help lists them")

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _words(path, name, value):
    """Returns a member of a file as words of a command line; null is as if it were not there."""
    if isinstance(value, (list, dict)):
        kind = "a list" if isinstance(value, list) else "an object"
        raise UserError(f"{path}: {shortened(name)} is {kind}, expected a number, a text, true or false")
    if value is None or name in REFUSED and value is False or name == "source_prefix" and value == "":
        return []
    return [f"--{name}={str(value).lower() if isinstance(value, bool) else value}"]


def _truth(text):
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, found {shortened(text)}")
    return text.lower() == "true"


def _add_model(parser: _Parser) -> None:
    parser.add_argument("--model_name_or_path", required=True,
                        help="folder or file of the weights; random: random weights, for benchmarks")
    parser.add_argument("--model_card", default="chatglm2.6b", choices=list(CHATGLM_CARDS), help="its sizes")
    parser.add_argument("--tokenizer_name", default=None, help=f"{FILE}; by default the one beside the weights")
    parser.add_argument("--prompt_column", default="content", help="column of the questions")
    parser.add_argument("--response_column", default="summary", help="column of the answers")
    parser.add_argument("--history_column", default=None, help="column of earlier turns, lists of question and answer")
    parser.add_argument("--source_prefix", default=None, help="text before each prompt")
    parser.add_argument("--max_source_length", type=int, default=64, help="a longer prompt loses its end")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    for name in ("bf16", "fp16", "tf32"):
        parser.switch(name, EXPLANATIONS[name])


def _add_training(parser: _Parser) -> None:
    parser.add_argument("--train_file", required=True, help="JSON lines")
    parser.add_argument("--validation_file", default=None, help="JSON lines, for --do_eval")
    parser.add_argument("--test_file", default=None, help="not read: see chatglm2_generate.py")
    parser.add_argument("--output_dir", required=True, help="folder for what is written")
    parser.switch("overwrite_output_dir", "write into a folder that has a run's files")
    parser.switch("do_train", "train; there is nothing to do without", default=True)
    parser.switch("do_eval", "compute the loss of --validation_file, every --eval_steps and at the end")
    parser.switch("ignore_pad_token_for_loss", "always so: rows are not padded", default=True)
    parser.add_argument("--max_target_length", type=int, default=128, help="a longer answer loses its end")
    parser.add_argument("--max_train_samples", type=int, default=None, help="the first so many rows")
    parser.add_argument("--max_eval_samples", type=int, default=None, help="the first so many rows")
    parser.add_argument("--lora_r", type=int, default=32, help="rank of the update")
    parser.add_argument("--lora_alpha", type=float, default=16, help="the update is scaled by alpha / rank")
    parser.add_argument("--lora_dropout", type=float, default=0.05)
    parser.add_argument("--lora_checkpoint", default=None, help="LoRA file to start from")
    parser.add_argument("--resume_from_checkpoint", nargs="?", const="true", default=None,
                        help="true, or --output_dir: go on where a training there was cut off; or a LoRA file to "
                             "start from")
    parser.add_argument("--state_minutes", type=float, default=5.0,
                        help="minutes of training between states to resume from; 0: only upon Ctrl-C and SIGTERM")
    parser.add_argument("--keep_last", type=int, default=2, help="how many states are kept until training has ended")
    parser.add_argument("--per_device_train_batch_size", type=int, default=1, help="rows whose mean is taken together")
    parser.add_argument("--per_device_eval_batch_size", type=int, default=1, help="the same of --validation_file")
    parser.add_argument("--gradient_accumulation_steps", type=int, default=16, help="such batches for one update")
    parser.switch("gradient_checkpointing", "no effect: a step is computed in pieces that fit --memory_gb")
    parser.add_argument("--memory_gb", type=float, default=24.0, help="GPU memory that a step may take, in 10^9 bytes")
    parser.add_argument("--learning_rate", type=float, default=2e-5)
    parser.add_argument("--lr_scheduler_type", default="linear", choices=SCHEDULES)
    parser.add_argument("--warmup_steps", type=int, default=0)
    parser.add_argument("--weight_decay", type=float, default=0.0)
    parser.add_argument("--adam_beta1", type=float, default=0.9)
    parser.add_argument("--adam_beta2", type=float, default=0.999)
    parser.add_argument("--adam_epsilon", type=float, default=1e-8)
    parser.add_argument("--max_grad_norm", type=float, default=1.0, help="largest norm of the gradients; 0 is off")
    parser.add_argument("--report_to", default="none", choices=["none", "tensorboard"],
                        help="tensorboard: event files of the log's numbers too")
    parser.add_argument("--max_steps", type=int, default=None, help="updates; 3000 where no epochs are given")
    parser.add_argument("--num_train_epochs", type=int, default=None)
    parser.add_argument("--logging_steps", type=int, default=10, help="updates between log lines")
    parser.add_argument("--save_steps", type=int, default=100, help="updates between checkpoints")
    parser.add_argument("--eval_steps", type=int, default=None, help="updates between losses of --validation_file")


def _add_generation(parser: _Parser) -> None:
    parser.add_argument("--lora_checkpoint", default=None, help="what chatglm2_ft.py has written")
    parser.add_argument("--question", default=None, help="one question; without it and --test_file, a dialogue")
    parser.add_argument("--history", default=None, help=".json file with earlier turns: lists of question and answer")
    parser.add_argument("--test_file", default=None, help="JSON lines, whose questions are answered")
    parser.add_argument("--max_predict_samples", type=int, default=None, help="the first so many rows of it")
    parser.add_argument("--output_file", default=None, help="with --test_file: answers, and scores beside them")
    parser.add_argument("--batch_size", type=int, default=16, help="with --test_file: prompts at once")
    parser.add_argument("--max_target_length", type=int, default=128, help="most tokens of an answer")
    parser.switch("do_sample", "draw tokens; by default the most probable one is taken")
    parser.add_argument("--top_p", type=float, default=0.7, help="draw from the fewest tokens with this probability")
    parser.add_argument("--temperature", type=float, default=0.95, help="logits are divided by it before a draw")
    parser.add_argument("--num_beams", type=int, default=1, help="more than 1: beam search")
    parser.add_argument("--length_penalty", type=float, default=1.0, help="of beam search")
    parser.add_argument("--no_repeat_ngram_size", type=int, default=0, help="of beam search; 0 is off")


def _refuse(condition: Any, sentence: str) -> None:
    if condition:
        raise UserError(sentence)


def _check_model(arguments: argparse.Namespace) -> None:
    check_ranges(vars(arguments))
    check_alone("this program")
    chosen = [name for name in ("bf16", "fp16", "tf32") if getattr(arguments, name)]
    _refuse(len(chosen) > 1, f"--{' and --'.join(chosen)}: expected one of them")
    arguments.precision = chosen[0] if chosen else DEFAULT_PRECISION
    arguments.card = CHATGLM_CARDS[arguments.model_card]
    arguments.random_seed, arguments.source_prefix = arguments.seed, arguments.source_prefix or ""
    arguments.init_checkpoint = arguments.model_name_or_path
    longest = arguments.max_source_length + arguments.max_target_length + 1
    _refuse(longest > arguments.card.positions,
            f"--max_source_length and --max_target_length: {longest} tokens in a row, expected at most "
            f"{arguments.card.positions}, the positions of {arguments.model_card}")
    if arguments.tokenizer_name is None:
        path = arguments.model_name_or_path
        folder = path if os.path.isdir(path) else os.path.dirname(path)
        arguments.tokenizer_name = os.path.join(PRETRAINED / arguments.card.folder if path == RANDOM else folder, FILE)
    elif os.path.isdir(arguments.tokenizer_name):
        arguments.tokenizer_name = os.path.join(arguments.tokenizer_name, FILE)


def _set_resume(arguments):
    """Says by ``resume`` and ``lora_checkpoint`` what ``--resume_from_checkpoint`` asks for."""
    chosen = arguments.resume_from_checkpoint
    arguments.resume_from_checkpoint = None  # a training that goes on has the settings of the one that was cut off
    is_file = chosen is not None and chosen.endswith(".safetensors")
    arguments.lora_checkpoint = chosen if is_file else arguments.lora_checkpoint
    arguments.resume = chosen is not None and not is_file and chosen.lower() != "false"
    if arguments.resume and chosen.lower() != "true":
        _refuse(os.path.realpath(chosen) != os.path.realpath(arguments.output_dir),
                f"--resume_from_checkpoint {chosen}: expected true, --output_dir {arguments.output_dir}, or a LoRA "
                "file, *.safetensors")


def chatglm_training_arguments(argv: list[str], description: str) -> argparse.Namespace:
    """Parses the arguments of a training.

    Returns:
        The namespace of all names, and of those that common.run.training and gpt2_ft.py read: ``card``, ``lora``,
        ``precision``, ``lr``, ``clip`` and so on.

    Raises:
        UserError: a name is unknown, or a value is out of range.
    """
    parser = _Parser(description)
    _add_model(parser)
    _add_training(parser)
    arguments = parser.parse(argv)
    _check_model(arguments)
    _refuse(not arguments.do_train, "--do_train false: there is nothing to do; answers are generated by "
                                    "chatglm2_generate.py")
    _refuse(arguments.do_eval and not arguments.validation_file, "--do_eval needs --validation_file")
    _refuse(not arguments.ignore_pad_token_for_loss,
            "--ignore_pad_token_for_loss false: rows are not padded, so that there is no padding to learn")
    _refuse(arguments.lora_checkpoint and arguments.resume_from_checkpoint,
            "--lora_checkpoint and --resume_from_checkpoint: expected one of them")
    if arguments.gradient_checkpointing:
        note("--gradient_checkpointing has no effect: a step is computed in pieces that fit --memory_gb "
             f"{arguments.memory_gb:g}, and its numbers are the same")
    arguments.lora = ChatGLMLora(arguments.lora_r, arguments.lora_alpha, arguments.lora_dropout)
    _set_resume(arguments)
    arguments.max_step, arguments.max_epoch = arguments.max_steps, arguments.num_train_epochs
    if arguments.max_step is None and arguments.max_epoch is None:
        arguments.max_step = 3000
    for name, value in {
            "work_dir": arguments.output_dir, "overwrite": arguments.overwrite_output_dir,
            "overwrite_output_dir": None, "train_data": arguments.train_file,
            "valid_data": arguments.validation_file if arguments.do_eval else None, "no_shuffle": False, "obj": "clm",
            "tensorboard": arguments.report_to == "tensorboard", "report_to": None,
            "train_batch_size": arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps,
            "valid_batch_size": arguments.per_device_eval_batch_size, "grad_acc": 1, "label_smooth": 0.0,
            "seq_len": arguments.max_source_length + arguments.max_target_length + 1,
            "clip": arguments.max_grad_norm, "lr": arguments.learning_rate, "scheduler": arguments.lr_scheduler_type,
            "warmup_step": arguments.warmup_steps, "adam_epislon": arguments.adam_epsilon, "correct_bias": True,
            "no_decay_bias": False, "i_steps": [], "i_lrs": [], "log_interval": arguments.logging_steps,
            "save_interval": arguments.save_steps, "eval_interval": arguments.eval_steps or 1 << 30,
            "eval_epoch": 1 << 30}.items():
        setattr(arguments, name, value)
    check_ranges({"train_batch_size": arguments.train_batch_size})
    return arguments


def chatglm_generation_arguments(argv: list[str], description: str) -> argparse.Namespace:
    """Parses the arguments of generation.

    Returns:
        The namespace of all names, with ``card`` and ``precision``.

    Raises:
        UserError: a name is unknown, or a value is out of range.
    """
    parser = _Parser(description)
    _add_model(parser)
    _add_generation(parser)
    arguments = parser.parse(argv)
    _check_model(arguments)
    _refuse(arguments.question is not None and arguments.test_file, "--question and --test_file: expected one of them")
    _refuse(arguments.test_file and not arguments.output_file, "--test_file needs --output_file")
    _refuse(arguments.history and arguments.test_file,
            "--history goes with --question or a dialogue; --test_file has --history_column")
    _refuse(arguments.do_sample and arguments.num_beams > 1, "--do_sample and --num_beams: expected one of them")
    return arguments


def flags_of_chatglm(words: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sorts flags by the program that takes them: chatglm2_ft.py, chatglm2_generate.py, or both.

    Returns:
        Two dictionaries ``{name: value}`` of the flags that are given.

    Raises:
        UserError: a word is a flag of neither.
    """
    found = []
    for add in (_add_training, _add_generation):
        parser = _Parser("")
        _add_model(parser)
        add(parser)
        flags, rest = given_flags(parser, words)
        found.append((flags, rest, parser))
    (training, rest, parser), (generation, others, _) = found
    for word in [word for word in rest if word.startswith("--") and word in others] or words[:1]:
        if word in rest and (word in others or not word.startswith("--")):
            parser.refuse(word, "")
    return training, generation
