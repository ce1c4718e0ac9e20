//! `GET …/attach`: a WebSocket (RFC 6455) for interactive use. This is its handshake; what goes over
//! it is [`super::session`].

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};
use workspace_common::linger::Received;
use workspace_common::{
    body::{self, Body},
    drain::Drain,
    problem::Problem,
};

use super::{check_offsets, session};
use crate::{
    exec::query,
    supervise::{process::Process, reader::Reader},
};

/// When the agent stops, how long a client may take to read the end of its command.
const FAREWELL: Duration = Duration::from_secs(2);
/// The longest message that is taken from a client.
const MAX_MESSAGE: usize = 1 << 20;

/// Answers the handshake and serves what follows.
///
/// # Errors
/// 426 for a request that asks for no WebSocket, 400 for offsets that are not there.
pub(super) fn upgrade(
    drain: &Drain,
    process: Arc<Process>,
    mut request: Request<Received>,
) -> Result<Response<Body>, Problem> {
    let from = query::attach(request.uri().query())?;
    check_offsets(&process, from)?;
    let accept = accept_key(request.headers())?;
    // Attached from the answer on: a client that has it must not find its command gone.
    let attachment = process.attach();
    let reader = Reader::following(process.clone(), from).seated();
    let upgraded = hyper::upgrade::on(&mut request);
    let stop = drain.clone();
    drain.spawn(async move {
        let _attachment = attachment;
        let Ok(upgraded) = upgraded.await else { return };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let io = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        tokio::select! {
            () = session::serve(socket, reader) => {}
            () = overdue(&stop, &process) => {}
        }
    });
    Ok(switching(&accept))
}

/// Resolves when the agent is stopping and its client has had its time for the last output: one that
/// does not read must not hold the stop up.
async fn overdue(stop: &Drain, process: &Process) {
    stop.started().await;
    process.ended().await;
    tokio::select! {
        () = tokio::time::sleep(FAREWELL) => {}
        () = stop.cut() => {}
    }
}

/// The proof that the handshake was understood, if it is one (RFC 6455, section 4.2.1).
fn accept_key(headers: &HeaderMap) -> Result<String, Problem> {
    let lists =
        |name, wanted: &str| {
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|value| {
                value.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted))
            })
        };
    let version = headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|value| value == "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let asked = lists(header::UPGRADE, "websocket") && lists(header::CONNECTION, "upgrade");
    match key.filter(|_| asked && version) {
        Some(key) => Ok(derive_accept_key(key.as_bytes())),
        None => {
            let detail = "this call is a WebSocket: send Upgrade: websocket, Connection: Upgrade, \
                          Sec-WebSocket-Version: 13 and a Sec-WebSocket-Key, in HTTP/1.1";
            Err(Problem::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail))
        }
    }
}

fn switching(accept: &str) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (http::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_example_of_the_standard_is_answered_as_it_says() {
        let good = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        assert_eq!(accept_key(&headers(&good)).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for missing in 0..good.len() {
            let mut rest = good.to_vec();
            rest.remove(missing);
            assert_eq!(accept_key(&headers(&rest)).unwrap_err().code, "upgrade_required");
        }
    }
}
