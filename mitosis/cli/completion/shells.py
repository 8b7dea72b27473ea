"""Speaking with the shells: `mito --complete SHELL`, called by their scripts at every TAB.

The line comes in a variable, never as an argument, which others could read: it may hold a password.
The answer is `words` or `files` on the first line, then one candidate a line. Nothing is ever
evaluated: a shell quotes what it inserts, or gets it quoted.
"""

import json
import os
import re
import sys
from collections.abc import Sequence

from mitosis.cli.completion import store
from mitosis.cli.completion.engine import Answer, complete
from mitosis.cli.grammar import split_options

LINE, WORD, OPTIONS = "_MITO_LINE", "_MITO_WORD", "_MITO_OPTIONS"
MAX_LINE = 100_000
MAX_CANDIDATES = 200
_SAFE = re.compile(r"[\w@%+=:,./#-]*")

BASH = r"""# Completion of mito for bash; written by `mito --install-completion bash`.
_mito() {
    local line kind=""
    COMPREPLY=()
    while IFS= read -r line; do
        if [ -z "$kind" ]; then kind=$line; else COMPREPLY+=("$line"); fi
    done < <(_MITO_LINE="${COMP_LINE:0:COMP_POINT}" _MITO_WORD="$2" \
        command mito --complete bash 2>/dev/null </dev/null)
    if [ "$kind" = files ]; then COMPREPLY=(); compopt -o default 2>/dev/null; fi
    return 0
}
complete -F _mito mito
"""

ZSH = r"""#compdef mito
# Completion of mito for zsh; written by `mito --install-completion zsh`.
_mito() {
    local line; local -a lines texts shown
    lines=("${(@f)$(_MITO_LINE="${(j: :)words[1,CURRENT-1]} $PREFIX" \
        command mito --complete zsh 2>/dev/null </dev/null)}")
    if [[ "$lines[1]" == files ]]; then _files; return; fi
    for line in "${(@)lines[2,-1]}"; do
        texts+=("${line%%$'\t'*}")
        shown+=("${line/$'\t'/  -- }")
    done
    (( $#texts )) && compadd -l -d shown -a -- texts
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _mito mito
"""

FISH = r"""# Completion of mito for fish; written by `mito --install-completion fish`.
function __mito_complete
    set -lx _MITO_LINE (string join \n -- (commandline -cop) (commandline -ct) | string collect -N)
    set -l lines (command mito --complete fish 2>/dev/null </dev/null)
    if test "$lines[1]" = files
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $lines[2..-1]
    end
end
complete -c mito -f -a '(__mito_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def answer_shell(shell: str) -> int:
    """Print the candidates for the line in the environment."""
    line = os.environ.get(LINE, "")[:MAX_LINE]
    if shell == "fish":
        *words, raw = line.removesuffix("\n").split("\n")  # one word a line
        quoted, word = False, raw
    else:
        words, word, raw, quoted = read_line(line)
    answer = answer_words(words[1:], word)
    out = ["files" if answer.files else "words"]
    for candidate in answer.candidates[:MAX_CANDIDATES]:
        if not candidate.text.isprintable() or not candidate.help.isprintable():
            continue
        if shell == "bash":
            text = for_bash(candidate.text, raw, os.environ.get(WORD, raw), quoted)
            out += [text] if text is not None else []
        else:
            out.append(f"{candidate.text}\t{candidate.help}" if candidate.help else candidate.text)
    sys.stdout.buffer.write("".join(f"{text}\n" for text in out).encode(errors="replace"))
    sys.stdout.flush()
    return 0


def answer_words(before: Sequence[str], word: str) -> Answer:
    """Return what may stand at the cursor, from what is known now; have the rest asked for.

    Args:
        before: The words between `mito` and the cursor.
        word: The beginning of the word at the cursor.
    """
    tree, current = store.load_tree()
    options: list[str] = []
    if before[:1] == ["client"]:
        options = store.without_secrets(split_options(list(before[1:]))[0])
    values, stale = store.load_values(store.values_place(options, os.environ))
    if not current or (stale and before[:1] == ["client"]):
        ask_in_background(options)
    return complete(tree if tree is not None else _names_only(), values, before, word)


def ask_in_background(options: Sequence[str]) -> None:
    """Start a process that brings the files up to date, and do not wait for it."""
    environment = {name: value for name, value in os.environ.items() if name not in {LINE, WORD}}
    environment[OPTIONS] = json.dumps(list(options))
    # Not by `subprocess`, whose import alone is a tenth of the time that a TAB may take.
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "mitosis", "--complete", "refresh"],
        environment,
        file_actions=[(os.POSIX_SPAWN_OPEN, n, os.devnull, os.O_RDWR, 0) for n in range(3)],
        setsid=True,
    )
    del child  # ends by itself, and after us


def read_line(line: str) -> tuple[list[str], str, str, bool]:
    """Part a line that may end within a word.

    Returns:
        The words before the last one; the last one, which may be empty; the same as it was typed;
        whether it ends inside of quotes.
    """
    words: list[str] = []
    word, raw, quote, escaped, begun = "", "", "", False, False
    for char in line:
        if not quote and not escaped and char in " \t\n":
            words += [word] if begun else []
            word, raw, begun = "", "", False
            continue
        raw, begun = raw + char, True
        if escaped:
            word, escaped = word + char, False
        elif char == "\\" and quote != "'":
            escaped = True
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            word += char
    return words, word, raw, bool(quote)


def for_bash(text: str, raw: str, replaced: str, quoted: bool) -> str | None:
    """Return a candidate as bash inserts it; None: it cannot be inserted here.

    Bash replaces only what stands after the last of its word breaks (`=`, `:`), and inserts the
    text as it is.

    Args:
        text: The whole word.
        raw: The word as typed so far.
        replaced: The part of it that bash replaces.
        quoted: It ends inside of quotes.
    """
    safe = _SAFE.fullmatch(text) is not None
    if quoted:
        return text if safe and raw[1:] == replaced else None
    kept = raw[: len(raw) - len(replaced)] if raw.endswith(replaced) else ""
    if not text.startswith(kept):
        return None
    return re.sub(r"([^\w@%+=:,./#-])", r"\\\1", text.removeprefix(kept))


def _names_only() -> dict[str, object]:
    """Return the tree without options: all that is known before it has been made."""
    from mitosis.cli.commands import CLIENT, NAMED, PLATFORM, listed

    root: dict[str, object] = {"commands": {}}
    for program, table in ((["client"], CLIENT), ([], PLATFORM)):
        for path, (command, _) in listed(table).items():
            node, words = root, [*program, *path.split()]
            for depth, name in enumerate(words):
                commands = node.setdefault("commands", {})
                assert isinstance(commands, dict)  # noqa: S101  made here
                node = commands.setdefault(name, {})
                if " ".join(words[len(program) : depth + 1]) in NAMED:
                    node["named"] = NAMED[" ".join(words[len(program) : depth + 1])].lower()
            node["help"] = command.summary
    return root
