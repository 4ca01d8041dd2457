//! tokio-postgres or sqlx, as the first argument says: one line of JSON for each feature.
mod sqlx_session;
mod tokio_session;

use serde_json::{json, Value};
use std::{error::Error, future::Future};

pub type Seen = Result<Value, Box<dyn Error>>;

pub const BY_ID: &str = "SELECT id, name, ssn FROM customers WHERE id = $1";
pub const SSN: &str = "SELECT ssn FROM customers WHERE id = $1";
pub const THREE: &str = "SELECT ssn FROM customers WHERE id < 4 ORDER BY id";
pub const COPY_OUT: &str = "COPY (SELECT id, ssn FROM customers WHERE id < 4 ORDER BY id) TO STDOUT";
pub const TYPES: &str = "SELECT 1::int4, 2::int8, 1.5::float8, 'x'::text, true, NULL::text";
pub const REFUSED: &str = "GRANT SELECT ON orders TO PUBLIC";
pub const COUNT: &str = "SELECT count(*) FROM scratch";

pub fn given(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// Runs the future; what it gives is what was seen.
pub async fn feature(name: &str, work: impl Future<Output = Seen>) {
    let line = match work.await {
        Ok(value) => json!({ "feature": name, "value": value }),
        Err(error) => {
            eprintln!("{name}: {error:?}");
            json!({ "feature": name, "error": format!("{error:?}") })
        }
    };
    println!("{line}");
}

#[tokio::main]
async fn main() {
    println!("{}", json!({ "feature": "version", "value": given("TEST_VERSION") }));
    match std::env::args().nth(1).as_deref() {
        Some("tokio-postgres") => tokio_session::run().await,
        Some("sqlx") => sqlx_session::run().await,
        _ => panic!("say tokio-postgres or sqlx"),
    }
}
