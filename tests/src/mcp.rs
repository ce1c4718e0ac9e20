//! A stand-in for an MCP server (streamable HTTP, JSON answers): enough of the protocol for the
//! demo, on a machine with no other tool. The tests meet the official SDK instead.

use std::{io, net::TcpStream};

use anyhow::Result;
use serde_json::{Value, json};

use crate::origin::{Origin, Received, respond};

/// Starts the server; it turns away every request without `Authorization: Bearer SECRET`.
///
/// # Errors
/// When the kernel has no port left.
pub fn start(secret: &str) -> Result<Origin> {
    let expected = format!("Bearer {secret}");
    Origin::start(move |request, stream| answer(request, stream, &expected))
}

fn answer(request: &Received, stream: &mut TcpStream, expected: &str) -> io::Result<()> {
    if request.all("authorization") != [expected] {
        return respond(stream, 401, "text/plain", b"this MCP server wants its token");
    }
    let Ok(call) = serde_json::from_slice::<Value>(&request.body) else {
        return respond(stream, 400, "text/plain", b"not JSON-RPC");
    };
    let reply = json!({ "jsonrpc": "2.0", "id": call["id"], "result": result(&call) });
    respond(stream, 200, "application/json", reply.to_string().as_bytes())
}

fn result(call: &Value) -> Value {
    match call["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": "2025-06-18",
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "demo", "version": "1" },
        }),
        Some("tools/call") => {
            let text =
                format!("hello, {}", call["params"]["arguments"]["name"].as_str().unwrap_or("?"));
            json!({ "content": [{ "type": "text", "text": text }], "isError": false })
        }
        _ => json!({}),
    }
}
