"""Bad environments: folders, variables, machines and launchers that the programs cannot run with, or can."""

from common.frameworks import FRAMEWORKS
from common.run.launching import VARIABLES
from tests import FRAMEWORK
from tests.faults.cases import Case

SETUP = "scripts/setup_environment.py"
# What a shell, a linker or C++ would read otherwise, by the character that is named first.
JITTOR_HOMES = {
    "command": ("/tmp/j$(touch${IFS}X)", r"'\$'"), "backquotes": ("/tmp/`touch X`", "'`'"),
    "semicolon": ("/tmp/a;b", "';'"), "ampersand": ("/tmp/R&D(1)项目", "'&'"), "pipe": ("/tmp/a|b", r"'\|'"),
    "comma": ("/tmp/a,b", "','"),
    "colon": ("/tmp/a:b", "':'"), "space": ("/tmp/a b", "' '"), "tab": ("/tmp/a\tb", r"'\\t'"),
    "newline": ("/tmp/a\nb", r"'\\n'"), "quote": ("/tmp/a'b", "\"'\""), "double quote": ('/tmp/a"b', "'\"'"),
    "pattern": ("/tmp/[x]", r"'\['"), "star": ("/tmp/a*b", r"'\*'"), "question": ("/tmp/a?b", r"'\?'"),
    "variable": ("/tmp/a$b", r"'\$'"), "backslash": ("/tmp/a\\b", r"'\\\\'"), "hash": ("/tmp/a#b", "'#'"),
    "per cent": ("/tmp/a%b", "'%'"), "equals": ("/tmp/a=b", "'='"), "redirection": ("/tmp/a>b", "'>'"),
    "braces": ("/tmp/{a}", r"'\{'"), "exclamation": ("/tmp/a!", "'!'"), "tilde": ("~/cache", "'~'"),
    "accent": ("/tmp/é", "'é'"), "Chinese": ("/tmp/项目", "'项'"), "relative": ("my cache", "' '"),
}
FOLDERS = [
    *(Case(f"JITTOR_HOME with {name}", SETUP, ["jittor"], f"JITTOR_HOME: found {found} in .*--framework pytorch",
           environment={"JITTOR_HOME": home}) for name, (home, found) in JITTOR_HOMES.items()),
    Case("both wait for Jittor's check", SETUP, ["both"], "JITTOR_HOME: found ' '",
         environment={"JITTOR_HOME": "/tmp/a b"}),
    Case("JITTOR_HOME is a file", SETUP, ["jittor"], "home is no folder; name a folder of yours: JITTOR_HOME=",
         files={"home": ""}, environment={"JITTOR_HOME": "home"}),
    Case("JITTOR_HOME is a device", SETUP, ["jittor"], "/dev/null is no folder",
         environment={"JITTOR_HOME": "/dev/null"}),
    Case("no compiler", SETUP, ["jittor"], r"found no C\+\+ compiler `no-such-g\+\+`.*apt-get install g\+\+",
         environment={"cc_path": "no-such-g++"}),
    Case("compiler under a path for shells", SETUP, ["jittor"], r"the C\+\+ compiler: found '\$' in",
         prepare=lambda folder: (folder / "$(touch X)").symlink_to("/bin/true"),
         environment={"cc_path": "./$(touch X)"}),
    Case("driver, JITTOR_HOME", "scripts/run_task.py", ["e2e", "--work_dir", "w"], r"JITTOR_HOME: found '\$'",
         environment={"JITTOR_HOME": "/tmp/j$(touch${IFS}X)"}),
    Case("driver, no folder for results", "scripts/run_task.py", ["e2e", "--work_dir", "file/w"],
         "cannot write the results: .*file is no folder; name a folder of yours: --work_dir", files={"file": ""}),
    Case("no GPU to check", "scripts/maintain/check_gpu.py", ["--output", "checks"], "found no GPU .*; --device cpu",
         environment={"CUDA_VISIBLE_DEVICES": ""}),
]

OPTIMISED = [Case(f"PYTHONOPTIMIZE=2, {program}", program, [], "PYTHONOPTIMIZE=2.*: unset PYTHONOPTIMIZE",
                  environment={"PYTHONOPTIMIZE": "2"})
             for program in (SETUP, "scripts/create_datasets.py", "eval/squad/evaluate.py")]

NEEDED = {"src/gpt2_ft.py": ["--train_data", "t", "--valid_data", "v", "--init_checkpoint", "none", "--max_step", "3"],
          "src/gpt2_beam.py": ["--data", "d", "--init_checkpoint", "none"]}
# What is taken shows by the next thing that is wrong.
TAKEN = "no such (checkpoint|file)"
REFUSED = "is {}: its launcher's variables say {}; leave the flag out, and start several processes with torchrun"
LAUNCHERS = {
    **dict.fromkeys(("--local-rank=0", "--local_rank 0", "--local_rank -1", "--rank 0", "--world_size 0",
                     "--world_size 1", "--device 0",
                     "--platform local --local_rank 0 --rank 0 --world_size 0 --device 0"), TAKEN),
    "--local-rank=1": REFUSED.format(1, 0), "--local_rank 3": REFUSED.format(3, 0), "--rank 1": REFUSED.format(1, 0),
    "--world_size 2": REFUSED.format(2, 1), "--world_size two": "invalid int value: 'two'",
    "--device 1": "invalid choice: '1'", "--platform k8s": "--platform k8s: only local works",
}
OTHERS = "mpirun" if FRAMEWORK == "pytorch" else "torchrun"
PROCESSES = [
    ("WORLD_SIZE is empty", {"WORLD_SIZE": "", "RANK": "", "LOCAL_RANK": ""}, TAKEN),
    ("WORLD_SIZE=2 alone", {"WORLD_SIZE": "2"}, "RANK is not set, WORLD_SIZE is 2, .*: expected all of them; start"),
    ("RANK=2 of 2", {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"},
     "RANK is 2, WORLD_SIZE is 2, .*: expected ranks from 0 on"),
    ("the other tree's launcher", dict(zip(VARIABLES[OTHERS], "0202")),
     "has started 2 processes: the .* tree takes"),
    ("LOCAL_RANK is no number", {"LOCAL_RANK": "first"}, "LOCAL_RANK is 'first': expected a whole number"),
]
OF_JITTOR = [
    Case("use_cuda=1 without a GPU", "src/gpt2_ft.py", NEEDED["src/gpt2_ft.py"],
         "use_cuda=1: found no GPU; unset use_cuda", environment={"use_cuda": "1", "CUDA_VISIBLE_DEVICES": ""}),
    Case("numpy of another Python", "src/gpt2_ft.py", NEEDED["src/gpt2_ft.py"],
         "found numpy 2.1.0 in .*it comes from PYTHONPATH, which names packages, .*`unset PYTHONPATH`",
         files={"packages/numpy/__init__.py": "__version__ = '2.1.0'"},
         environment={"PYTHONPATH": "packages", "PYTHONDONTWRITEBYTECODE": "1"}),
    Case("JITTOR_HOME is read by a shell", "src/gpt2_beam.py", NEEDED["src/gpt2_beam.py"], r"JITTOR_HOME: found '\$'",
         environment={"JITTOR_HOME": "/tmp/j$(touch${IFS}X)"}),
]
LAUNCHED = [
    *(Case(words, program, [*needed, *words.split()], sentence) for program, needed in NEEDED.items()
      for words, sentence in LAUNCHERS.items()),
    *(Case(name, "src/gpt2_ft.py", NEEDED["src/gpt2_ft.py"], sentence, environment=environment)
      for name, environment, sentence in PROCESSES),
    *(OF_JITTOR if FRAMEWORK == FRAMEWORKS[1] else []),
]
CASES = [*FOLDERS, *OPTIMISED, *LAUNCHED]
