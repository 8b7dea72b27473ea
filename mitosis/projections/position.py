"""How far the read models are, for others than the one who builds them."""

from mitosis.projections.pool import ReadPool
from mitosis.projections.postgres import Connection, fetch_value
from mitosis.projections.store import PROJECTION


async def applied_position(pool: ReadPool) -> int:
    """Return the position that the read models include, whoever writes them.

    Raises:
        ViewUnavailable: Postgres does not answer.
    """

    async def read(connection: Connection) -> int:
        position: int = await fetch_value(
            connection,
            "SELECT coalesce(max(position), 0) FROM views.position WHERE projection = %s",
            PROJECTION,
        )
        return position

    return await pool.read(read)
