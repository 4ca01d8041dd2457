//! tokio-postgres: prepares everything, asks for binary results, pipelines what is awaited together.
use crate::{feature, given, Seen, BY_ID, COPY_OUT, COUNT, REFUSED, SSN, THREE, TYPES};
use futures_util::{future, pin_mut, stream, SinkExt, StreamExt, TryStreamExt};
use native_tls::{Certificate, TlsConnector};
use postgres_native_tls::MakeTlsConnector;
use serde_json::json;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_postgres::{config::SslMode, AsyncMessage, Client, Config, Error, SimpleQueryMessage};

type Connected = (Client, mpsc::UnboundedReceiver<String>, MakeTlsConnector);

async fn connect(ca: &str) -> Result<Connected, Box<dyn std::error::Error>> {
    let certificate = Certificate::from_pem(&std::fs::read(given(ca))?)?;
    let tls = MakeTlsConnector::new(TlsConnector::builder().add_root_certificate(certificate).build()?);
    let (client, mut connection) = Config::new()
        .host("127.0.0.1")
        .port(given("TEST_PORT").parse()?)
        .user("me")
        .password(given("TEST_TOKEN"))
        .dbname(given("TEST_DATABASE"))
        .ssl_mode(SslMode::Require)
        .connect(tls.clone())
        .await?;
    let (say, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(notification) = message {
                let _ = say.send(notification.payload().to_owned());
            }
        }
    });
    Ok((client, heard, tls))
}

fn state<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "none".to_owned(),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned()),
    }
}

async fn one(client: &Client) -> Result<i32, Error> {
    client.query_one("SELECT 1", &[]).await?.try_get(0)
}

async fn count(client: &Client) -> Result<i64, Error> {
    client.query_one(COUNT, &[]).await?.try_get(0)
}

async fn by_id(client: &Client, id: i32) -> Seen {
    let row = client.query_one(BY_ID, &[&id]).await?;
    Ok(json!([row.get::<_, i32>(0), row.get::<_, String>(1), row.get::<_, String>(2)]))
}

pub async fn run() {
    let (mut client, mut heard, tls) = connect("TEST_CA").await.expect("connected");
    feature("connect", async { Ok(json!(one(&client).await?)) }).await;
    feature("verify", async {
        Ok(json!(connect("TEST_WRONG_CA").await.is_err_and(|error| format!("{error:?}").contains("certificate"))))
    })
    .await;
    feature("parameters", by_id(&client, 1)).await;
    feature("binary", by_id(&client, 2)).await;
    feature("prepared", async {
        let statement = client.prepare(SSN).await?;
        let mut seen = vec![];
        for n in 0..9 {
            seen.push(client.query_one(&statement, &[&(1 + n % 3)]).await?.get::<_, String>(0));
        }
        Ok(json!(seen))
    })
    .await;
    feature("types", async {
        let row = client.query_one(TYPES, &[]).await?;
        let (a, b, c) = (row.get::<_, i32>(0), row.get::<_, i64>(1), row.get::<_, f64>(2));
        Ok(json!([a, b, c, row.get::<_, String>(3), row.get::<_, bool>(4), row.get::<_, Option<String>>(5)]))
    })
    .await;
    feature("rows", async {
        let rows = client.query_raw("SELECT id FROM big", Vec::<i32>::new()).await?;
        let sum = rows.try_fold(0_i64, |sum, row| future::ready(Ok(sum + i64::from(row.get::<_, i32>(0))))).await?;
        Ok(json!(sum))
    })
    .await;
    feature("error", async {
        Ok(json!([state(client.query("SELECT * FROM nowhere", &[]).await), one(&client).await?]))
    })
    .await;
    feature("refused", async { Ok(json!([state(client.batch_execute(REFUSED).await), one(&client).await?])) }).await;
    feature("transaction", transaction(&mut client)).await;
    feature("cursor", async {
        let own = client.transaction().await?;
        let portal = own.bind(THREE, &[]).await?;
        let mut seen = vec![];
        loop {
            let part = own.query_portal(&portal, 2).await?;
            if part.is_empty() {
                break;
            }
            seen.extend(part.iter().map(|row| row.get::<_, String>(0)));
        }
        own.commit().await?;
        Ok(json!(seen))
    })
    .await;
    feature("copy in", async {
        let sink = client.copy_in("COPY scratch FROM STDIN").await?;
        pin_mut!(sink);
        for n in 0..1000 {
            sink.send(std::io::Cursor::new(format!("{n}\tcopied\n"))).await?;
        }
        sink.finish().await?;
        let seen = count(&client).await?;
        client.batch_execute("DELETE FROM scratch").await?;
        Ok(json!(seen))
    })
    .await;
    feature("copy out", async {
        let parts: Vec<_> = client.copy_out(COPY_OUT).await?.try_collect().await?;
        Ok(json!(String::from_utf8(parts.concat())?))
    })
    .await;
    feature("notify", async {
        client.batch_execute("LISTEN news; NOTIFY news, 'hello'").await?;
        Ok(json!(tokio::time::timeout(Duration::from_secs(5), heard.recv()).await?))
    })
    .await;
    feature("pipeline", async {
        let (first, failed, third) =
            future::join3(client.simple_query(THREE), client.query("SELECT 1/0", &[]), client.query_one("SELECT 3", &[])).await;
        let ssn = first?.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(json!([ssn, state(failed), third?.get::<_, i32>(0)]))
    })
    .await;
    feature("cancel", async {
        let token = client.cancel_token();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let _ = token.cancel_query(tls).await;
        });
        Ok(json!([state(client.batch_execute("SELECT pg_sleep(20)").await), one(&client).await?]))
    })
    .await;
}

async fn transaction(client: &mut Client) -> Seen {
    let own = client.transaction().await?;
    own.execute("INSERT INTO scratch VALUES ($1, $2)", &[&1, &"a"]).await?;
    let inside: i64 = own.query_one(COUNT, &[]).await?.get(0);
    let failed = state(own.query("SELECT 1/0", &[]).await);
    let aborted = state(own.query("SELECT 1", &[]).await);
    own.rollback().await?;
    let after = count(client).await?;
    let mut own = client.transaction().await?;
    own.execute("INSERT INTO scratch VALUES ($1, $2)", &[&1, &"a"]).await?;
    let inner = own.savepoint("nested").await?;
    let _ = inner.query("SELECT 1/0", &[]).await;
    inner.rollback().await?;
    own.commit().await?;
    let kept = count(client).await?;
    client.batch_execute("DELETE FROM scratch").await?;
    Ok(json!([inside, failed, aborted, after, kept]))
}
