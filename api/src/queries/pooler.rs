//! A connection pooler before Postgres is noticed at the first contact and refused. The service needs what poolers do not hand on: limits
//! that are set when a connection is made (read only, the time of a query) and LISTEN. It never runs without them.

use super::{Pool, Store, StoreError, malformed, postgres};
use tidemark_tls::postgres::Server;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Something between this service and Postgres, as PgBouncer.
#[derive(Debug, thiserror::Error)]
#[error(
    "it leads to a connection pooler, which does not hand on statement_timeout, default_transaction_read_only and LISTEN: give the \
     address of the Postgres server itself{}", .server.as_ref().map(|server| format!(", which says it is {server}")).unwrap_or_default()
)]
pub struct Pooler {
    /// Where the server says it is, if it says so.
    server: Option<String>,
}

impl Store {
    /// The first look at the store: whether it answers, and is Postgres itself.
    pub async fn look(&self) -> Result<(), StoreError> {
        if let Pool::Postgres(pool) = &self.feed {
            let refusing = tokio::time::timeout(pool.timeout(), pool.refuse_a_pooler());
            refusing.await.map_err(|_| StoreError::TimedOut)??;
        }
        self.progress().await.map(drop)
    }
}

impl postgres::Pool {
    async fn refuse_a_pooler(&self) -> Result<(), StoreError> {
        let client = match connect(self.server()).await {
            Ok(client) => client,
            // No Postgres refuses these: their names and values are right.
            Err(error) if error.code() == Some(&SqlState::PROTOCOL_VIOLATION) => {
                let server = match connect(self.plain_server()).await {
                    Ok(client) => address(&client).await,
                    Err(_) => None,
                };
                return Err(StoreError::Pooler(Pooler { server }));
            }
            Err(error) => return Err(self.unreachable(error)),
        };
        let setting = "select setting from pg_settings where name = 'statement_timeout'";
        let row = client.query_typed(setting, &[]).await.map_err(postgres::classify)?;
        let setting: &str = row.first().and_then(|row| row.try_get(0).ok()).ok_or_else(|| malformed("no statement_timeout"))?;
        if setting == self.timeout().as_millis().to_string() {
            return Ok(());
        }
        Err(StoreError::Pooler(Pooler { server: address(&client).await }))
    }
}

/// The connection ends with the client.
async fn connect(server: &Server) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = server.connect().await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn address(client: &Client) -> Option<String> {
    let asked = "select host(inet_server_addr()) || ':' || inet_server_port()";
    client.query_typed(asked, &[]).await.ok()?.first()?.try_get(0).ok()?
}
