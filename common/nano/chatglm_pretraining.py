"""The rows that chatglm2-nano is pretrained on: the grammar's advertisements in other forms than fine-tuning has them.

Three forms, so that fine-tuning has something to learn: attributes and their text without the prompt; the prompt, but
with the text as the question and the attributes as the answer; and texts alone. The demo's rows have another seed.
"""

import random
from collections.abc import Iterator

from common.data.chatglm_tokenizer import END_OF_TEXT, ChatGLMTokenizer
from common.demo.advertising import advertisement, draw_input, written
from common.run.batching import Row


def pretraining_rows(tokenizer: ChatGLMTokenizer, seed: int) -> Iterator[Row]:
    """Yields Rows without end; the loss is on their completion, which is nearly all of a row."""
    draw = random.Random(seed).random
    start = [tokenizer.special_ids["[gMASK]"], tokenizer.special_ids["sop"]]
    while True:
        attributes = draw_input(draw)
        text, content, form = advertisement(draw, attributes), written(attributes), draw()
        if form < 0.5:
            yield Row(start, [*tokenizer.encode(f"{content}\n{text}"), END_OF_TEXT])
        elif form < 0.75:
            yield Row(tokenizer.prompt_ids(text), [*tokenizer.encode(content), END_OF_TEXT])
        else:
            yield Row(start, [*tokenizer.encode(text), END_OF_TEXT])
