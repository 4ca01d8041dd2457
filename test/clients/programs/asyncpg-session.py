"""asyncpg, which prepares every statement and asks for binary results: see features.py for what is printed."""
import asyncio
import io
import ssl

import asyncpg
from features import BY_ID, CA, COPY_OUT, DATABASE, PORT, REFUSED, THREE, TOKEN, TYPES, WRONG_CA, fail, tell


async def connect(ca=CA):
    context = ssl.create_default_context(cafile=ca)
    return await asyncpg.connect(host="127.0.0.1", port=PORT, database=DATABASE, user="me", password=TOKEN, ssl=context)


async def state(awaitable):
    try:
        await awaitable
    except asyncpg.PostgresError as error:
        return error.sqlstate
    return "none"


async def verify(_connection):
    try:
        await connect(WRONG_CA)
    except ssl.SSLCertVerificationError:
        return True
    return False


async def prepared(connection):
    statement = await connection.prepare("SELECT ssn FROM customers WHERE id = $1")
    return [await statement.fetchval(1 + n % 3) for n in range(9)]


async def transaction(connection):
    count = lambda: connection.fetchval("SELECT count(*) FROM scratch")
    seen = []
    begun = connection.transaction()
    await begun.start()
    await connection.execute("INSERT INTO scratch VALUES ($1, $2)", 1, "a")
    seen.append(await count())
    seen.append(await state(connection.fetch("SELECT 1/0")))
    seen.append(await state(connection.fetch("SELECT 1")))
    await begun.rollback()
    seen.append(await count())
    async with connection.transaction():
        await connection.execute("INSERT INTO scratch VALUES ($1, $2)", 1, "a")
        async with connection.transaction():
            await connection.fetch("SELECT 1")
    seen.append(await count())
    await connection.execute("DELETE FROM scratch")
    return seen


async def cursor(connection):
    async with connection.transaction():
        return [row[0] async for row in connection.cursor(THREE, prefetch=2)]


async def copy_in(connection):
    await connection.copy_records_to_table("scratch", records=[(n, "copied") for n in range(1000)])
    seen = await connection.fetchval("SELECT count(*) FROM scratch")
    await connection.execute("DELETE FROM scratch")
    return seen


async def copy_out(connection):
    out = io.BytesIO()
    query = COPY_OUT.removeprefix("COPY (").removesuffix(") TO STDOUT")
    await connection.copy_from_query(query, output=out)
    return out.getvalue().decode()


async def notify(connection):
    heard = asyncio.get_running_loop().create_future()
    await connection.add_listener("news", lambda _connection, _pid, _channel, payload: heard.set_result(payload))
    await connection.execute("NOTIFY news, 'hello'")
    return await asyncio.wait_for(heard, 10)


async def pipeline(connection):
    await connection.executemany("INSERT INTO scratch VALUES ($1, $2)", [(n, "many") for n in range(100)])
    seen = await connection.fetchval("SELECT count(*) FROM scratch")
    await connection.execute("DELETE FROM scratch")
    failed = await state(connection.executemany("SELECT 1 / $1::int", [(1,), (0,), (2,)]))
    return [seen, failed, await connection.fetchval("SELECT 3")]


async def cancel(connection):
    task = asyncio.create_task(connection.fetch("SELECT pg_sleep(20)"))
    await asyncio.sleep(0.3)
    task.cancel()
    try:
        await task
        seen = "none"
    except asyncio.CancelledError:
        seen = "57014"  # asyncpg swallows the server's error and says that its task was cancelled
    return [seen, await connection.fetchval("SELECT 1")]


async def main():
    tell("version", asyncpg.__version__)
    connection = await connect()
    one = lambda: connection.fetchval("SELECT 1")

    async def row(query, *values):
        return list(await connection.fetchrow(query, *values))

    async def rows():
        return sum(record[0] for record in await connection.fetch("SELECT id FROM big"))

    async def seen_state(query):
        return [await state(connection.fetch(query)), await one()]

    for name, work in {
        "connect": one,
        "verify": lambda: verify(connection),
        "parameters": lambda: row(BY_ID + "$1", 1),
        "prepared": lambda: prepared(connection),
        "binary": lambda: row(BY_ID + "$1", 2),
        "types": lambda: row(TYPES),
        "rows": rows,
        "error": lambda: seen_state("SELECT * FROM nowhere"),
        "refused": lambda: seen_state(REFUSED),
        "transaction": lambda: transaction(connection),
        "cursor": lambda: cursor(connection),
        "copy in": lambda: copy_in(connection),
        "copy out": lambda: copy_out(connection),
        "notify": lambda: notify(connection),
        "pipeline of one statement": lambda: pipeline(connection),
        "cancel": lambda: cancel(connection),
    }.items():
        try:
            tell(name, await work())
        except Exception as error:  # whatever went wrong is the result
            fail(name, error)
    await connection.close()


asyncio.run(main())
