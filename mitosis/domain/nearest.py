"""What a person may have meant by a word that is none of ours."""

from collections.abc import Iterable


def one_of(word: str, names: Iterable[str]) -> str:
    """Return the end of a sentence: the nearest name if one is near, and all that there are.

    Args:
        word: What was given; upper and lower case do not matter.
        names: What could have been given.
    """
    import difflib  # only for a sentence about a mistake

    known = list(names)
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), by_folded, n=1)
    advice = f"did you mean {by_folded[near[0]]!r}? " if near else ""
    return f"{advice}Use one of {', '.join(known)}" if advice else f"use one of {', '.join(known)}"
