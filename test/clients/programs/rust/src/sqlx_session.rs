//! sqlx: prepares and caches everything, asks for binary results.
use crate::{feature, given, Seen, BY_ID, COPY_OUT, COUNT, REFUSED, SSN, THREE, TYPES};
use futures_util::TryStreamExt;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolCopyExt, PgPoolOptions, PgSslMode};
use sqlx::{Connection, Executor, PgPool};
use std::time::Duration;

fn options(ca: &str) -> PgConnectOptions {
    PgConnectOptions::new()
        .host("127.0.0.1")
        .port(given("TEST_PORT").parse().expect("a port"))
        .username("me")
        .password(&given("TEST_TOKEN"))
        .database(&given("TEST_DATABASE"))
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert(given(ca))
}

fn state<T>(result: Result<T, sqlx::Error>) -> String {
    match result {
        Ok(_) => "none".to_owned(),
        Err(sqlx::Error::Database(error)) => error.code().map_or_else(|| error.to_string(), |code| code.into_owned()),
        Err(error) => error.to_string(),
    }
}

async fn one(pool: &PgPool) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT 1").fetch_one(pool).await
}

async fn count(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(COUNT).fetch_one(pool).await
}

async fn by_id(pool: &PgPool, id: i32) -> Seen {
    let row: (i32, String, String) = sqlx::query_as(BY_ID).bind(id).fetch_one(pool).await?;
    Ok(json!(row))
}

pub async fn run() {
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options("TEST_CA")).await.expect("connected");
    feature("connect", async { Ok(json!(one(&pool).await?)) }).await;
    feature("verify", async {
        let refused = PgConnection::connect_with(&options("TEST_WRONG_CA")).await;
        Ok(json!(refused.is_err_and(|error| error.to_string().contains("certificate"))))
    })
    .await;
    feature("parameters", by_id(&pool, 1)).await;
    feature("binary", by_id(&pool, 2)).await;
    feature("prepared", async {
        let mut seen: Vec<String> = vec![];
        for n in 0..9 {
            seen.push(sqlx::query_scalar(SSN).bind(1 + n % 3).fetch_one(&pool).await?);
        }
        Ok(json!(seen))
    })
    .await;
    feature("types", async {
        let row: (i32, i64, f64, String, bool, Option<String>) = sqlx::query_as(TYPES).fetch_one(&pool).await?;
        Ok(json!(row))
    })
    .await;
    feature("rows", async {
        let mut rows = sqlx::query_scalar::<_, i32>("SELECT id FROM big").fetch(&pool);
        let mut sum = 0_i64;
        while let Some(id) = rows.try_next().await? {
            sum += i64::from(id);
        }
        Ok(json!(sum))
    })
    .await;
    feature("error", async {
        Ok(json!([state(sqlx::query("SELECT * FROM nowhere").execute(&pool).await), one(&pool).await?]))
    })
    .await;
    feature("refused", async { Ok(json!([state(pool.execute(REFUSED).await), one(&pool).await?])) }).await;
    feature("transaction", transaction(&pool)).await;
    feature("copy in", async {
        let mut copy = pool.copy_in_raw("COPY scratch FROM STDIN").await?;
        for n in 0..1000 {
            copy.send(format!("{n}\tcopied\n").into_bytes()).await?;
        }
        copy.finish().await?;
        let seen = count(&pool).await?;
        pool.execute("DELETE FROM scratch").await?;
        Ok(json!(seen))
    })
    .await;
    feature("copy out", async {
        let parts: Vec<_> = pool.copy_out_raw(COPY_OUT).await?.try_collect().await?;
        Ok(json!(String::from_utf8(parts.concat())?))
    })
    .await;
    feature("notify", async {
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen("news").await?;
        pool.execute("NOTIFY news, 'hello'").await?;
        let heard = tokio::time::timeout(Duration::from_secs(5), listener.recv()).await??;
        Ok(json!(heard.payload()))
    })
    .await;
    feature("rows of a query builder", async {
        Ok(json!(sqlx::query_scalar::<_, String>(THREE).fetch_all(&pool).await?))
    })
    .await;
    pool.close().await;
}

async fn transaction(pool: &PgPool) -> Seen {
    let mut own = pool.begin().await?;
    sqlx::query("INSERT INTO scratch VALUES ($1, $2)").bind(1).bind("a").execute(&mut *own).await?;
    let inside: i64 = sqlx::query_scalar(COUNT).fetch_one(&mut *own).await?;
    let failed = state(sqlx::query("SELECT 1/0").execute(&mut *own).await);
    let aborted = state(sqlx::query("SELECT 1").execute(&mut *own).await);
    own.rollback().await?;
    let after = count(pool).await?;
    let mut own = pool.begin().await?;
    sqlx::query("INSERT INTO scratch VALUES ($1, $2)").bind(1).bind("a").execute(&mut *own).await?;
    let mut inner = own.begin().await?;
    let _ = sqlx::query("SELECT 1/0").execute(&mut *inner).await;
    inner.rollback().await?;
    own.commit().await?;
    let kept = count(pool).await?;
    pool.execute("DELETE FROM scratch").await?;
    Ok(json!([inside, failed, aborted, after, kept]))
}
