"""psycopg 3: see features.py for what is printed."""
import threading

import psycopg
from features import BY_ID, CA, COPY_OUT, DATABASE, PORT, REFUSED, THREE, TOKEN, TYPES, WRONG_CA, feature, tell


def connect(**more):
    options = dict(host="127.0.0.1", port=PORT, dbname=DATABASE, user="me", password=TOKEN, sslmode="verify-full", sslrootcert=CA)
    return psycopg.connect(**{"autocommit": True, **options, **more})


def state(work):
    try:
        work()
    except psycopg.Error as error:
        return error.sqlstate
    return "none"


tell("version", psycopg.__version__)
connection = connect()


@feature("connect")
def _():
    return connection.execute("SELECT 1").fetchone()[0]


@feature("verify")
def _():
    try:
        connect(sslrootcert=WRONG_CA)
    except psycopg.OperationalError as error:
        return "certificate" in str(error)
    return False


@feature("parameters")
def _():
    return connection.execute(BY_ID + "%s", (1,)).fetchone()


@feature("prepared")
def _():
    return [connection.execute("SELECT ssn FROM customers WHERE id = %s", (1 + n % 3,), prepare=True).fetchone()[0] for n in range(9)]


@feature("binary")
def _():
    return connection.cursor(binary=True).execute(BY_ID + "%s", (2,)).fetchone()


@feature("types")
def _():
    return connection.cursor(binary=True).execute(TYPES).fetchone()


@feature("rows")
def _():
    return sum(row[0] for row in connection.execute("SELECT id FROM big"))


@feature("error")
def _():
    return [state(lambda: connection.execute("SELECT * FROM nowhere")), connection.execute("SELECT 1").fetchone()[0]]


@feature("refused")
def _():
    return [state(lambda: connection.execute(REFUSED)), connection.execute("SELECT 1").fetchone()[0]]


@feature("refused in a transaction")
def _():
    connection.execute("BEGIN")
    seen = [state(lambda: connection.execute(REFUSED)), state(lambda: connection.execute("SELECT 1"))]
    connection.execute("ROLLBACK")
    return [*seen, connection.execute("SELECT 1").fetchone()[0]]


@feature("transaction")
def _():
    seen = []
    count = lambda: seen.append(connection.execute("SELECT count(*) FROM scratch").fetchone()[0])
    connection.execute("BEGIN")
    connection.execute("INSERT INTO scratch VALUES (%s, %s)", (1, "a"))
    count()
    seen.append(state(lambda: connection.execute("SELECT 1/0")))
    seen.append(state(lambda: connection.execute("SELECT 1")))
    connection.execute("ROLLBACK")
    count()
    with connection.transaction():
        connection.execute("INSERT INTO scratch VALUES (%s, %s)", (1, "a"))
        with connection.transaction():
            connection.execute("SELECT 1")
    count()
    connection.execute("DELETE FROM scratch")
    return seen


@feature("cursor")
def _():
    with connection.transaction(), connection.cursor(name="in_parts") as cursor:
        cursor.itersize = 2
        return [row[0] for row in cursor.execute(THREE)]


@feature("copy in")
def _():
    with connection.cursor().copy("COPY scratch FROM STDIN") as copy:
        for n in range(1000):
            copy.write_row((n, "copied"))
    with connection.cursor().copy("COPY scratch FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "text"])
        copy.write_row((1000, "copied"))
    seen = connection.execute("SELECT count(*) FROM scratch").fetchone()[0]
    connection.execute("DELETE FROM scratch")
    return seen - 1


@feature("copy out")
def _():
    with connection.cursor().copy(COPY_OUT) as copy:
        return b"".join(bytes(part) for part in copy).decode()


@feature("notify")
def _():
    heard = []
    connection.add_notify_handler(lambda notify: heard.append(notify.payload))
    connection.execute("LISTEN news")
    connection.execute("NOTIFY news, 'hello'")
    connection.execute("SELECT 1")
    return heard[0]


@feature("pipeline")
def _():
    with connect() as own:
        seen = []
        with own.pipeline() as pipeline:
            first = own.execute(THREE)
            pipeline.sync()
            seen.append(state(lambda: (own.execute("SELECT 1/0"), own.execute("SELECT 2"), pipeline.sync())))
            third = own.execute("SELECT 3")
            pipeline.sync()
            return [first.fetchone()[0], *seen, third.fetchone()[0]]


@feature("cancel")
def _():
    timer = threading.Timer(0.3, connection.cancel)
    timer.start()
    seen = state(lambda: connection.execute("SELECT pg_sleep(20)"))
    timer.join()
    return [seen, connection.execute("SELECT 1").fetchone()[0]]
