"""What every Python program here shares: where to connect to, the statements, and one line of JSON for each feature."""
import json
import os
import sys
import traceback

PORT = int(os.environ["TEST_PORT"])
CA = os.environ["TEST_CA"]
WRONG_CA = os.environ["TEST_WRONG_CA"]
TOKEN = os.environ["TEST_TOKEN"]
DATABASE = os.environ["TEST_DATABASE"]

BY_ID = "SELECT id, name, ssn FROM customers WHERE id = "
THREE = "SELECT ssn FROM customers WHERE id < 4 ORDER BY id"
COPY_OUT = "COPY (SELECT id, ssn FROM customers WHERE id < 4 ORDER BY id) TO STDOUT"
TYPES = "SELECT 1::int4, 2::int8, 1.5::float8, 'x'::text, true, NULL::text"
REFUSED = "GRANT SELECT ON orders TO PUBLIC"


def tell(feature, value):
    print(json.dumps({"feature": feature, "value": value}, default=str), flush=True)


def fail(feature, error):
    traceback.print_exc(file=sys.stderr)
    print(json.dumps({"feature": feature, "error": f"{type(error).__name__}: {error}"}), flush=True)


def feature(name):
    """Runs the function at once; what it returns is what was seen."""

    def run(work):
        try:
            tell(name, work())
        except Exception as error:  # whatever went wrong is the result
            fail(name, error)

    return run
