"""SQLAlchemy over the driver that TEST_DIALECT names: reflection, core, ORM. See features.py for what is printed."""
import os
import ssl

import sqlalchemy as sa
from features import CA, DATABASE, PORT, REFUSED, THREE, TOKEN, TYPES, WRONG_CA, feature, tell
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

dialect = os.environ["TEST_DIALECT"]


def engine_for(ca):
    url = sa.URL.create(f"postgresql+{dialect}", "me", TOKEN, "127.0.0.1", PORT, DATABASE)
    if dialect == "pg8000":
        return sa.create_engine(url, connect_args={"ssl_context": ssl.create_default_context(cafile=ca)})
    return sa.create_engine(url, connect_args={"sslmode": "verify-full", "sslrootcert": ca})


def state(work):
    try:
        work()
    except sa.exc.DBAPIError as error:
        cause = error.orig
        return getattr(cause, "pgcode", None) or cause.args[0].get("C")
    return "none"


class Base(DeclarativeBase):
    pass


class Scratch(Base):
    __tablename__ = "scratch"
    n: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str]


engine = engine_for(CA)
tell("version", f"{sa.__version__}, {dialect} {engine.dialect.dbapi.__version__}")
plain = engine.connect().execution_options(isolation_level="AUTOCOMMIT")


@feature("connect")
def _():
    return plain.scalar(sa.text("SELECT 1"))


@feature("verify")
def _():
    try:
        engine_for(WRONG_CA).connect()
    except Exception as error:  # the driver's own class
        return "certificate" in str(error)
    return False


@feature("metadata")
def _():
    looked = sa.inspect(engine)
    assert {"customers", "orders", "big"} <= set(looked.get_table_names())
    looked.get_indexes("orders"), looked.get_foreign_keys("orders"), looked.get_view_names(), looked.get_pk_constraint("orders")
    return [column["name"] for column in looked.get_columns("customers")]


customers = sa.Table("customers", sa.MetaData(), autoload_with=engine)


@feature("parameters")
def _():
    query = sa.select(customers.c.id, customers.c.name, customers.c.ssn).where(customers.c.id == sa.bindparam("wanted"))
    return list(plain.execute(query, {"wanted": 1}).one())


@feature("types")
def _():
    return list(plain.execute(sa.text(TYPES)).one())


@feature("rows")
def _():
    return sum(row[0] for row in plain.execute(sa.text("SELECT id FROM big")))


@feature("error")
def _():
    return [state(lambda: plain.execute(sa.text("SELECT * FROM nowhere"))), plain.scalar(sa.text("SELECT 1"))]


@feature("refused")
def _():
    return [state(lambda: plain.execute(sa.text(REFUSED))), plain.scalar(sa.text("SELECT 1"))]


@feature("transaction")
def _():
    seen = []
    count = lambda session: session.scalar(sa.select(sa.func.count()).select_from(Scratch))
    with Session(engine) as session:
        session.add(Scratch(n=1, note="a"))
        session.flush()
        seen.append(count(session))
        seen.append(state(lambda: session.execute(sa.text("SELECT 1/0"))))
        seen.append(state(lambda: session.execute(sa.text("SELECT 1"))))
        session.rollback()
        seen.append(count(session))
        session.add(Scratch(n=1, note="a"))
        with session.begin_nested():
            session.execute(sa.text("SELECT 1"))
        session.commit()
        seen.append(count(session))
        session.delete(session.get(Scratch, 1))
        session.commit()
    return seen


@feature("cursor")
def _():
    with engine.connect() as own:
        result = own.execution_options(stream_results=True, max_row_buffer=2).execute(sa.text(THREE))
        return [row[0] for row in result]
