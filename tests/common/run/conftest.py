"""The command line of a short training, as the program parses it."""

from types import SimpleNamespace

import pytest

from common.files import write_json_lines
from common.model.initial_weights import RANDOM


@pytest.fixture
def arguments(tmp_path):
    rows = str(tmp_path / "rows.jsonl")
    write_json_lines(rows, ({"context": [index + 1, 9], "completion": [3, 4]} for index in range(10)))
    return SimpleNamespace(
        train_data=rows, valid_data=rows, train_batch_size=4, valid_batch_size=4, seq_len=16, obj="clm", grad_acc=1,
        lr=1.0, warmup_step=2, scheduler="linear", max_epoch=3, max_step=None, i_steps=[0], i_lrs=[0.0], log_interval=2,
        eval_interval=5, save_interval=4, eval_epoch=1, no_shuffle=False, random_seed=1, init_checkpoint=RANDOM,
        lora_checkpoint=None, precision="fp32", overwrite=False, resume=False, state_minutes=5.0, keep_last=2,
        tensorboard=False, work_dir=str(tmp_path / "work"))
