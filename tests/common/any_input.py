"""Strategies of hypothesis for files that are almost what a parser expects."""

import copy

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 60000) | st.integers() | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6)


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """The bytes of a file with up to three faults: cut off, flipped, inserted, taken out or doubled."""
    for _ in range(draw(st.integers(1, 3))):
        start, end = sorted((draw(st.integers(0, len(content))), draw(st.integers(0, len(content)))))
        content = draw(st.sampled_from([
            content[:start], content[:start] + content[end:], content[:end] + content[start:],
            content[:start] + draw(st.binary(min_size=1, max_size=4)) + content[start:],
            content[:start] + draw(st.text(st.sampled_from('\n\r\u2028\x85\ufeff|{}[],:"0'), max_size=3)).encode()
            + content[end:]]))
    return content


def places(value, path=()):
    """Yields the path of each value inside a JSON document, of the document itself first."""
    yield path
    for key, item in (value.items() if isinstance(value, dict) else
                      enumerate(value) if isinstance(value, list) else ()):
        yield from places(item, (*path, key))


@st.composite
def changed(draw, document):
    """A JSON document with up to three values that are others, taken out, or there twice."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from([path for path in places(document) if path] or [(None,)]))
        if last is None:  # nothing is left inside it
            return draw(JSON)
        holder = document
        for key in way:
            holder = holder[key]
        kind = draw(st.sampled_from(["other", "gone", "twice"]))
        if kind == "other":
            holder[last] = draw(JSON)
        elif kind == "gone":
            del holder[last]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
    return document
