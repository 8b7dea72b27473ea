"""What a person may have meant by a word that is none of ours."""

from collections.abc import Iterable

NEAR = 0.68  # of difflib, 1 is equal: --stat is near to --state, --sort is not to --priority


def one_of(word: str, names: Iterable[str]) -> str:
    """Return the end of a sentence: the nearest name if one is near, and all that there are.

    Args:
        word: What was given; upper and lower case do not matter.
        names: What could have been given.
    """
    known = list(names)
    near = nearest(word, known)
    if near is None:
        return f"use one of {', '.join(known)}"
    return f"did you mean {near!r}? Use one of {', '.join(known)}"


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Return the name that was probably meant; None: there is none so near."""
    import difflib  # only for a sentence about a mistake

    by_folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=NEAR)
    return by_folded[near[0]] if near else None
