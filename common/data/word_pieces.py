"""BERT's word pieces, and the queries of events made of them: ``[CLS] question [SEP] sentence [SEP]``."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from common.checks import shortened
from common.data.events import Event, Ontology, Span
from common.errors import UserError, note

SPECIAL_PIECES = ("[UNK]", "[CLS]", "[SEP]")
MOST_OF_WORD = 64  # pieces; what is longer is no word, and would leave no room for others


class WordPieces:
    """A tokeniser of BERT's uncased models (Devlin et al. 2019, section 3).

    Args:
        path: vocab.txt, one piece a line.

    Attributes:
        count: number of pieces.
        unknown, first, separator: ids of [UNK], [CLS] and [SEP].

    Raises:
        UserError: there is no such file, or it lacks a special piece.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        from tokenizers import BertWordPieceTokenizer  # importing it takes a third of a second

        if not os.path.isfile(path):
            raise UserError(f"{path}: no such file; expected the model's vocab.txt (--vocab)")
        try:
            self.tokenizer = BertWordPieceTokenizer(str(path), lowercase=True)
        except Exception as error:  # the library raises plain Exceptions
            raise UserError(f"{path}: cannot be read as a vocab.txt: {error}") from error
        ids = [self.tokenizer.token_to_id(piece) for piece in SPECIAL_PIECES]
        if None in ids:
            raise UserError(f"{path}: has no {SPECIAL_PIECES[ids.index(None)]}, expected a BERT's vocab.txt, one piece "
                            "a line")
        self.unknown, self.first, self.separator = ids
        self.count = self.tokenizer.get_vocab_size()
        self._known: dict[str, list[int]] = {}

    def of_words(self, words: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each word's pieces: one [UNK] of a word that has none, such as a control character."""
        new = [word for word in dict.fromkeys(words) if word not in self._known]
        if new:
            encoded = self.tokenizer.encode(new, is_pretokenized=True, add_special_tokens=False)
            pieces: dict[int, list[int]] = {}
            for piece, word in zip(encoded.ids, encoded.word_ids):
                pieces.setdefault(word, []).append(piece)
            self._known.update((word, pieces.get(index, [self.unknown])) for index, word in enumerate(new))
        return [self._known[word] for word in words]


@dataclass(frozen=True)
class Query:
    """One role of one event, as the model reads it.

    Attributes:
        event: index of the Event in its list.
        role: that is asked for.
        input_ids: ids of the pieces.
        token_types: 1 for the question's and the trigger's pieces, 0 elsewhere.
        separator: position of the first [SEP], which stands for no argument.
        first_word: of the sentence that is read; 0 unless the sentence is too long.
        word_starts, word_ends: positions of the first and the last piece of each word that is read.
        spans: gold Spans of words that are read whole.
    """

    event: int
    role: str
    input_ids: list[int]
    token_types: list[int]
    separator: int
    first_word: int
    word_starts: list[int]
    word_ends: list[int]
    spans: tuple[Span, ...]

    def positions(self, span: Span) -> tuple[int, int]:
        """Returns the positions of the first and the last piece of a Span."""
        return self.word_starts[span.start - self.first_word], self.word_ends[span.end - self.first_word]


def window(lengths: Sequence[int], trigger: Span, room: int) -> tuple[int, int]:
    """Returns which words of a sentence are read: ``(first, last + 1)``.

    All of them where they fit. Otherwise the trigger and, by turns, one word behind and one before it while there is
    room; where one side ends or its next word does not fit, the other side goes on. A trigger that does not fit loses
    its end.

    Args:
        lengths: number of pieces of each word, each at most ``room``.
        trigger: Span.
        room: number of pieces that can be read.
    """
    if sum(lengths) <= room:
        return 0, len(lengths)
    first, after = trigger.start, trigger.start
    while after <= trigger.end and lengths[after] <= room:
        room -= lengths[after]
        after += 1
    can_grow = [True, True]
    while any(can_grow):
        for side in (0, 1):
            word = after if side == 0 else first - 1
            can_grow[side] = can_grow[side] and 0 <= word < len(lengths) and lengths[word] <= room
            if can_grow[side]:
                room -= lengths[word]
                first, after = (first, after + 1) if side == 0 else (first - 1, after)
    return first, after


def make_queries(events: Sequence[Event], ontology: Ontology, pieces: WordPieces, seq_len: int,
                 path: str | os.PathLike) -> list[Query]:
    """Returns the queries of events, event by event and role by role in the Ontology's order.

    What does not fit ``seq_len`` is left out by the rule of ``window``, and said.

    Args:
        path: of the events, for messages.

    Raises:
        UserError: an event's type has no roles, or a question leaves too little room for a sentence.
    """
    queries: list[Query] = []
    cut_words, cut_events, lost = set(), 0, 0
    questions = {role: [piece for word in pieces.of_words(text.split()) for piece in word]
                 for role, text in ontology.questions.items()}
    longest = max(map(len, questions.values()))
    room = seq_len - longest - 3
    if room < seq_len // 2:
        raise UserError(f"the longest question has {longest} word pieces, which leaves less than half of --seq_len "
                        f"{seq_len} for the sentence; make it shorter, or --seq_len larger")
    for number, event in enumerate(events):
        if event.event_type not in ontology.roles:
            raise UserError(f"{event.where}: the event type {shortened(event.event_type)} has no roles; expected one "
                            f"of {', '.join(ontology.roles)}")
        whole = pieces.of_words(event.words)
        most = min(MOST_OF_WORD, room)
        cut_words.update((event.sentence, index) for index, word in enumerate(whole) if len(word) > most)
        words = [word[:most] for word in whole]
        first, after = window([len(word) for word in words], event.trigger, room)
        cut_events += after - first < len(words)
        for role in ontology.roles[event.event_type]:
            gold = event.arguments.get(role, ())
            spans = tuple(span for span in gold if first <= span.start and span.end < after)
            lost += len(gold) - len(spans)
            queries.append(_query(number, event, role, questions[role], words[first:after], first, spans, pieces))
    if cut_words:
        note(f"{path}: {len(cut_words)} words have more than {most} word pieces and lose their end")
    if cut_events:
        note(f"{path}: {cut_events} of {len(events)} events are in sentences of more than {room} word pieces, "
             f"--seq_len {seq_len} less the longest question: of these the words around the trigger are read; {lost} "
             "arguments are outside")
    return queries


def _query(number, event, role, question, words, first, spans, pieces):
    """Returns a Query; ``words`` are the lists of pieces that are read, from the word ``first`` on."""
    ids = [pieces.first, *question, pieces.separator]
    types = [0, *[1] * len(question), 0]
    separator, starts, ends = len(ids) - 1, [], []
    for index, word in enumerate(words, first):
        starts.append(len(ids))
        ids += word
        types += [int(event.trigger.start <= index <= event.trigger.end)] * len(word)
        ends.append(len(ids) - 1)
    return Query(number, role, [*ids, pieces.separator], [*types, 0], separator, first, starts, ends, spans)


def counts_of(queries: Iterable[Query]) -> dict[str, Any]:
    """Returns how many queries there are, and how many of them have an argument to find."""
    queries = list(queries)
    return {"queries": len(queries), "answered": sum(bool(query.spans) for query in queries)}
