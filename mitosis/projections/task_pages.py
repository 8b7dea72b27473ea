"""Which tasks a page has, and how many there are, by any filters.

Of now, without a walk through the tasks of a group: totals are sums of counters, and a page is
found in the order of an index. For what has few values that is the index of counters: the newest
tasks of each counter that matches, and the newest of these. For a label or tag it is the table of
words. Tasks with several labels and tags are counted one by one, unless counters tell that they are
all in one state (where a large part of the group has all of them, by a look at the whole group),
and so is everything of the past (past.py).
"""

from typing import Any, LiteralString

import msgspec

from mitosis.contract.queries import ListTasks
from mitosis.domain.comparison import Operator, parse_comparison
from mitosis.domain.limits import MAX_PAGE, MAX_TAG_BYTES, MAX_TAGS, check_number, check_text
from mitosis.domain.names import check_name, check_uuid
from mitosis.domain.task import TaskState, check_state
from mitosis.errors import TooLarge
from mitosis.projections.counters import ALL, label_word, tag_word
from mitosis.projections.postgres import Reader

# Rows of indexes that are read rather than to walk through tasks, of which as many as expected may
# be passed by before enough match, or all of them.
FEW_ROWS = 10_000
ROWS_OF_A_SEARCH = 5  # to look for another place in an index costs as much as so many rows

# Times as long as a look at a task as it comes takes what is joined for one with several words.
DEAR_JOIN = 4

MOST_JOINED = 2  # of several words; the others are looked for in the tasks that have these two

# What can stand in SQL for an operator of a filter.
_OPERATORS: dict[Operator, LiteralString] = {
    Operator.EQUAL: "=",
    Operator.UNEQUAL: "<>",
    Operator.BELOW: "<",
    Operator.AT_MOST: "<=",
    Operator.ABOVE: ">",
    Operator.AT_LEAST: ">=",
}
_COUNTED_BY = ("creators", "states", "outcomes", "exit_status", "priority")
_NUMBERS: LiteralString = "t.group_name = %(group)s AND t.number = ANY(ARRAY({numbers}))"
_OF_COUNTER: LiteralString = (
    "t.group_name = c.group_name AND t.state = c.state AND t.creator = c.creator"
    " AND coalesce(t.outcome, '') = c.outcome AND t.exit_status = c.exit_status"
    " AND t.priority = c.priority"
)


class Page(msgspec.Struct):
    """A page and what it is one of.

    Attributes:
        counts: All that match, by state.
        where: Condition on tasks `t`.
        args: Its values, with the `offset` and `limit` at which the page is among what it finds.
    """

    counts: dict[str, int]
    where: LiteralString
    args: dict[str, Any]

    @property
    def total(self) -> int:
        """How many match."""
        return sum(self.counts.values())


class _Sums(msgspec.Struct, frozen=True):
    """Of the counters that match: how many there are, and what to read of each for a page."""

    counters: int
    rows: int

    @property
    def cost(self) -> int:
        """Rows that are read, or what takes as long."""
        return self.rows + ROWS_OF_A_SEARCH * self.counters


class _Search:
    """Filters as SQL, on rows of tasks `t`, of counters `c` and of words `w`."""

    def __init__(self, wanted: ListTasks, group: str) -> None:
        check_filters(wanted, group)
        self.wanted = wanted
        self.words = list(
            dict.fromkeys([*map(label_word, wanted.labels), *map(tag_word, wanted.tags)])
        )
        self.limited = any(getattr(wanted, field) for field in _COUNTED_BY)
        self.args: dict[str, Any] = {
            "group": group,
            "word": self.words[0] if self.words else ALL,
            "words": self.words,
            "creators": [check_name(name, "user") for name in wanted.creators],
            "tags": list(wanted.tags),
            "labels": list(wanted.labels),
            "states": [check_state(state) for state in wanted.states],
            "outcomes": [outcome.value for outcome in wanted.outcomes],
            "uuids": [check_uuid(uuid, "task") for uuid in wanted.uuids],
            "before": wanted.before,
            "offset": wanted.offset,
            "skipped": wanted.offset,
            "limit": wanted.limit,
            "reach": min(wanted.offset + wanted.limit, 2**62),
        }
        self.on_tasks = self._few_values("t")
        self.on_counters = self._few_values("c")
        self.tagged = self._tagged()

    def _few_values(self, row: LiteralString) -> LiteralString:
        """Conditions that counters are made for."""
        wanted, parts = self.wanted, [f"{row}.group_name = %(group)s"]
        if wanted.creators:
            parts.append(f"{row}.creator = ANY(%(creators)s)")
        if wanted.states:
            parts.append(f"{row}.state = ANY(%(states)s)")
        if wanted.outcomes:
            parts.append(f"{row}.outcome = ANY(%(outcomes)s)")
        if wanted.exit_status:
            exit_status = parse_comparison(wanted.exit_status, "the exit status")
            operator = _OPERATORS[exit_status.operator]
            parts.append(
                f"{row}.exit_status >= 0 AND {row}.exit_status {operator} %(exit_status)s::bigint"
            )
            self.args["exit_status"] = exit_status.number
        if wanted.priority:
            priority = parse_comparison(wanted.priority, "the priority")
            operator = _OPERATORS[priority.operator]
            parts.append(f"{row}.priority {operator} %(priority)s::bigint")
            self.args["priority"] = priority.number
        return " AND ".join(parts)

    def _tagged(self) -> LiteralString:
        """Conditions on the labels and tags of tasks that are at hand."""
        labels: LiteralString = " AND t.labels @> %(labels)s::text[]"
        tags: LiteralString = " AND t.tags @> %(tags)s::text[]"
        return labels * bool(self.wanted.labels) + tags * bool(self.wanted.tags)

    def behind(self, row: LiteralString) -> LiteralString:
        """Condition on where the page begins."""
        return f" AND {row}.number < %(before)s" if self.wanted.before else ""

    @property
    def everywhere(self) -> LiteralString:
        """All conditions, on tasks that are looked at one by one."""
        uuids: LiteralString = " AND t.uuid = ANY(%(uuids)s::uuid[])"
        return self.on_tasks + self.tagged + uuids * bool(self.wanted.uuids)

    @property
    def with_words(self) -> LiteralString:
        """The rows `w` of tasks that have the word, and the second one if there are several."""
        second: LiteralString = (
            " JOIN task_words s ON s.group_name = w.group_name AND s.number = w.number"
            " AND s.word = %(second)s"
        )
        return "task_words w" + second * (len(self.words) > 1)


async def find_page(connection: Reader, wanted: ListTasks, group: str) -> Page:
    """Return how many tasks match, and where those of the page are.

    Raises:
        InvalidInput: A filter that cannot be.
    """
    search = _Search(wanted, group)
    if not (search.limited or search.words or wanted.uuids):
        return _walk(search, await _count_group(connection, group))
    if wanted.as_of is not None or wanted.uuids:
        counts = await _count_each(connection, search)
        return _walk(search, counts)
    if len(search.words) > 1:
        return _numbered(search, await _count_words(connection, search), _of_word(search))
    counts, sums = await _count(connection, search)
    if not any(counts.values()) or wanted.count_only:
        return _walk(search, counts)
    if search.words and not search.limited:
        return _numbered(search, counts, _of_word(search))
    if search.words:
        return _numbered(search, counts, await _of_rarer(connection, search))
    in_group = sum((await _count_group(connection, group)).values())
    walked = search.args["reach"] * in_group // sum(counts.values())
    if sums.cost <= max(FEW_ROWS, walked):
        return _numbered(search, counts, _of_counters(search))
    return _walk(search, counts)


async def page_of(connection: Reader, wanted: ListTasks, group: str, limit: int) -> list[str]:
    """Return the UUIDs of the tasks of a page, of which there is room for `limit`; of the past.

    Raises:
        InvalidInput: A filter that cannot be.
    """
    search = _Search(wanted, group)
    if wanted.count_only:
        return []
    page = _walk(search, {})
    found = await connection.execute(
        f"SELECT t.uuid::text FROM tasks t WHERE {page.where} ORDER BY t.number DESC"
        " OFFSET %(offset)s LIMIT %(limit)s",
        {**page.args, "limit": min(wanted.limit, limit)},
    )
    return [row[0] for row in await found.fetchall()]


def _walk(search: _Search, counts: dict[str, int]) -> Page:
    """Let the page be looked for among the tasks themselves."""
    return Page(counts, search.everywhere + search.behind("t"), search.args)


def _numbered(search: _Search, counts: dict[str, int], numbers: LiteralString) -> Page:
    """Let the page be of the numbers that a statement gives, which begins and ends as it does."""
    return Page(counts, _NUMBERS.replace("{numbers}", numbers), {**search.args, "offset": 0})


def _of_word(search: _Search) -> LiteralString:
    """The numbers of the page, out of the tasks with a label or tag, or two of them."""
    # With a limit the inner statement stays one: it looks at one task after the other.
    matches: LiteralString = (
        " CROSS JOIN LATERAL (SELECT FROM tasks t WHERE t.group_name = w.group_name"
        f" AND t.number = w.number AND {search.on_tasks}{search.tagged} LIMIT 1) task"
    )
    looked_at = search.limited or len(search.words) > MOST_JOINED
    return (
        f"SELECT w.number FROM {search.with_words}{matches * looked_at}"
        f" WHERE w.group_name = %(group)s AND w.word = %(word)s{search.behind('w')}"
        " ORDER BY w.number DESC OFFSET %(skipped)s LIMIT %(limit)s"
    )


def _of_counters(search: _Search) -> LiteralString:
    """The numbers of the page, out of the newest tasks of each counter that matches."""
    return (
        "SELECT newest.number FROM task_counts c CROSS JOIN LATERAL ("
        f"SELECT t.number FROM tasks t WHERE {_OF_COUNTER}{search.tagged}{search.behind('t')}"
        "  ORDER BY t.number DESC LIMIT %(reach)s) newest"
        f" WHERE {search.on_counters} AND c.word = ''"
        " ORDER BY newest.number DESC OFFSET %(skipped)s LIMIT %(limit)s"
    )


async def _of_rarer(connection: Reader, search: _Search) -> LiteralString:
    """Find the page by what fewer tasks have: the word, or what the counters tell."""
    found = await connection.execute(
        "SELECT coalesce(sum(tasks) FILTER (WHERE word = %(word)s), 0),"
        f" coalesce(sum(tasks) FILTER (WHERE word = '' AND {search.on_counters}), 0)"
        " FROM task_counts c WHERE group_name = %(group)s AND word IN ('', %(word)s)",
        search.args,
    )
    with_word, alike = await found.fetchone() or (0, 0)
    return _of_word(search) if with_word <= alike else _of_counters(search)


async def _count(connection: Reader, search: _Search) -> tuple[dict[str, int], _Sums]:
    """Add up the counters that match."""
    found = await connection.execute(
        "SELECT c.state, sum(c.tasks)::bigint, count(*),"
        " sum(least(c.tasks, %(reach)s::bigint))::bigint"
        f" FROM task_counts c WHERE {search.on_counters} AND c.word = %(word)s GROUP BY c.state",
        search.args,
    )
    rows = await found.fetchall()
    counts = _none() | {state: tasks for state, tasks, _, _ in rows}
    return counts, _Sums(sum(row[2] for row in rows), sum(row[3] for row in rows))


async def _count_words(connection: Reader, search: _Search) -> dict[str, int]:
    """Count the tasks with several words, and let them be found by those that the fewest have."""
    found = await connection.execute(
        f"SELECT word, sum(tasks), sum(tasks) FILTER (WHERE {search.on_counters}),"
        "  min(state), max(state)"
        " FROM task_counts c WHERE group_name = %(group)s AND word = ANY(%(words)s)"
        " GROUP BY word ORDER BY 3",
        search.args,
    )
    rows = await found.fetchall()
    if len(rows) < len(search.words) or not all(matching for _, _, matching, _, _ in rows):
        return _none()
    search.args |= {"word": rows[0][0], "second": rows[1][0]}
    in_group = sum((await _count_group(connection, search.args["group"])).values())
    if rows[0][1] * DEAR_JOIN > in_group:
        return await _count_each(connection, search)
    words: LiteralString = (
        f"{search.with_words}{{}} WHERE w.group_name = %(group)s AND w.word = %(word)s"
    )
    # Where all with one of the words match and are in one state, so are those that have both.
    settled = [low for _, tasks, matching, low, high in rows if tasks == matching and low == high]
    if settled and len(rows) <= MOST_JOINED:
        found = await connection.execute("SELECT count(*) FROM " + words.format(""), search.args)
        (count,) = await found.fetchone() or (0,)
        return _none() | {settled[0]: count}
    tasks: LiteralString = (
        " JOIN tasks t ON t.group_name = w.group_name AND t.number = w.number"
        f" AND {search.on_tasks}{search.tagged}"
    )
    found = await connection.execute(
        f"SELECT t.state, count(*) FROM {words.format(tasks)} GROUP BY t.state", search.args
    )
    return _none() | dict(await found.fetchall())


async def _count_each(connection: Reader, search: _Search) -> dict[str, int]:
    """Count tasks one by one."""
    found = await connection.execute(
        f"SELECT t.state, count(*) FROM tasks t WHERE {search.everywhere} GROUP BY t.state",
        search.args,
    )
    return _none() | dict(await found.fetchall())


async def _count_group(connection: Reader, group: str) -> dict[str, int]:
    found = await connection.execute(
        "SELECT pending, ready, running, finished, cancelled FROM group_usage"
        " WHERE group_name = %s",
        (group,),
    )
    used = await found.fetchone()
    return dict(zip(_none(), used, strict=True)) if used else _none()


def _none() -> dict[str, int]:
    return {state.value: 0 for state in TaskState}


def check_filters(wanted: ListTasks, group: str) -> None:
    """Check the bounds of a question, but not the names in it.

    Raises:
        InvalidInput: Out of bounds. TooLarge: Too many.
    """
    check_name(group, "group")
    check_page(wanted.limit, wanted.offset)
    check_number(wanted.before, "before", 0, 2**62)
    for field in ("tags", "labels", "creators", "states"):
        asked = getattr(wanted, field)
        if len(asked) > MAX_TAGS:
            raise TooLarge(f"at most {MAX_TAGS} {field} can be asked for", limit=MAX_TAGS)
        for text in asked:
            check_text(text, field, MAX_TAG_BYTES)
    if len(wanted.uuids) > MAX_PAGE:
        raise TooLarge(f"at most {MAX_PAGE} UUIDs can be asked for", limit=MAX_PAGE)


def check_page(limit: int, offset: int) -> None:
    """Check the bounds of a page.

    Raises:
        InvalidInput: Out of bounds.
    """
    check_number(limit, "limit", 1, MAX_PAGE)
    check_number(offset, "offset", 0, 2**62)
