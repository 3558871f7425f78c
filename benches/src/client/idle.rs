//! Connections that have logged in and ask nothing.

use serde_json::json;

use super::{connect, told_to_end};
use crate::Result;

/// Opens them, says so, and holds them until the end of standard input.
pub(super) async fn run(url: &str, connections: usize) -> Result<()> {
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut client = connect(url).await?;
        // A session with a token. Nobody is asked for a password as long as there are no users.
        client.handshake("", "").await?;
        held.push(client);
    }
    println!("{}", json!({ "connections": held.len() }));
    told_to_end().await
}
