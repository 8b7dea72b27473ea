"""`mito config`: what is in effect and where it comes from, is a file right, an example file."""

from pathlib import Path

from mitosis.cli.exit_codes import DONE, USAGE
from mitosis.cli.invocation import UsageError, current
from mitosis.cli.output.screen import complain, note, show, write
from mitosis.cli.output.values import of_error
from mitosis.cli.parameters import ConfigPath, Flag
from mitosis.config.files import ConfigFile, read_file
from mitosis.config.loader import load, read_section
from mitosis.errors import InvalidSettings


def show_settings(*section: str, config: ConfigPath = None, origin: Flag = False) -> None:
    """Show the settings that are in effect here, secrets masked.

    Args:
        section: Only these: coordinator, worker, client.
        config: The path of the config file.
        origin: Say where each value comes from.
    """
    from mitosis.config.effective import SECTIONS, ShownSettings, lines_of, settings_of

    for name in section:
        if name not in SECTIONS:
            raise UsageError(f"{name!r} is no section: use one of {', '.join(SECTIONS)}")
    settings = [
        setting
        for name, kind in SECTIONS.items()
        if not section or name in section
        for setting in settings_of(load(kind, config=config))
    ]
    show(ShownSettings(settings), lambda: lines_of(settings, origin=origin))


def check(file: Path) -> int:
    """Check a settings file: everything that is wrong with it, with line, column and a hint.

    Args:
        file: The file.
    """
    from mitosis.config.effective import SECTIONS, CheckedFile

    read = ConfigFile(file, _text(file))
    tables = {name: read_section(kind, read) for name, kind in SECTIONS.items()}
    problems = list({p.message: p for table in tables.values() for p in table.problems}.values())
    if problems:
        return _refuse(file, problems)
    counts = {name: len(table.values) for name, table in tables.items()}
    for name, kind in SECTIONS.items():
        for warning in kind(**tables[name].values).warnings():
            note(f"mito: {warning}")
    said = ", ".join(f"[{name}] {count}" for name, count in counts.items() if count)
    show(
        CheckedFile(str(file), counts),
        lambda: [f"{file} can be used; settings: {said or 'none'}"],
    )
    return DONE


def print_example() -> None:
    """Print an example file: every section and key with its default and its meaning."""
    from mitosis.config.effective import ExampleFile
    from mitosis.config.example import example

    text = example()
    show(ExampleFile(text), lambda: [text.rstrip("\n")])


def _text(file: Path) -> str:
    try:
        return read_file(file)
    except InvalidSettings as error:
        error.details["problems"] = [error.message]
        raise


def _refuse(file: Path, problems: list[InvalidSettings]) -> int:
    if current.get().json:
        texts = [problem.message for problem in problems]
        error = InvalidSettings(problems[0].message, file=str(file), problems=texts)
        write(of_error(error))
    else:
        for problem in problems:
            complain(problem.message)
    return USAGE
