//! WebSocket upgrades (RFC 6455) of requests that go through the proxy: asked for by the client,
//! agreed to by the origin, both checked, then relayed as bytes.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use sha1::{Digest as _, Sha1};
use workspace_common::body::{self, Body};
use workspace_common::hop::{names_upgrade, offers_only};
use workspace_common::linger::Received;

use crate::answer::Terms;
use crate::audit::{Audit, Outcome};
use crate::context::Context;
use crate::hop;
use crate::refusal::Refusal;
use crate::relay::relay;

/// Appended to the client's key to prove that the origin speaks the protocol (RFC 6455 section 1.3).
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A client's wish to upgrade.
pub struct Handshake {
    key: HeaderValue,
    client: OnUpgrade,
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handshake")
    }
}

impl Handshake {
    /// Looks for the wish in a request as it came in. Any other `Upgrade` is no wish that the proxy
    /// passes on: the header is removed and the request goes out as a plain one.
    pub fn take(request: &mut Request<Received>) -> Option<Self> {
        let headers = request.headers();
        let asked = request.version() == Version::HTTP_11
            && request.method() == Method::GET
            && request.body().is_end_stream()
            && offers_only(headers, "websocket")
            && names_upgrade(headers)
            && headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
        if !asked {
            return None;
        }
        let key = headers.get(SEC_WEBSOCKET_KEY)?.clone();
        Some(Self { key, client: hyper::upgrade::on(request) })
    }

    /// Puts the wish back onto the cleaned request.
    pub fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }

    /// Checks the origin's agreement.
    ///
    /// # Errors
    /// [`Refusal::BadUpstream`] when it proves nothing.
    pub fn accept(self, response: Response<Incoming>, terms: Terms) -> Result<Socket, Refusal> {
        let proof =
            STANDARD.encode(Sha1::new().chain_update(&self.key).chain_update(MAGIC).finalize());
        let headers = response.headers();
        let proved = headers.get(SEC_WEBSOCKET_ACCEPT).is_some_and(|accept| accept == &proof);
        if !proved || !offers_only(headers, "websocket") {
            return Err(Refusal::BadUpstream);
        }
        Ok(Socket { client: self.client, response, terms })
    }
}

/// Both sides agreed; the client has yet to hear of it.
pub struct Socket {
    client: OnUpgrade,
    response: Response<Incoming>,
    terms: Terms,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Socket")
    }
}

impl Socket {
    /// The headers of the origin's agreement.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        self.response.headers_mut()
    }

    /// Answers 101 and relays from then on in a task of its own.
    #[must_use]
    pub fn open(mut self, context: &Arc<Context>, mut audit: Audit) -> Response<Body> {
        audit.answered(self.response.status());
        let mut response = Response::new(body::empty());
        *response.status_mut() = self.response.status();
        *response.headers_mut() = std::mem::take(self.response.headers_mut());
        hop::clean_response(response.headers_mut());
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        context.drain.spawn(self.run(audit));
        response
    }

    async fn run(self, audit: Audit) {
        let upgraded = tokio::join!(self.client, hyper::upgrade::on(self.response));
        let (Ok(client), Ok(upstream)) = upgraded else {
            audit.finish(Outcome::Cancelled);
            return;
        };
        let counts = audit.counts();
        let (client, upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        let moving = relay(client, upstream, bytes::Bytes::new(), &counts, self.terms.idle);
        // Losing the relay closes both sides.
        let outcome = tokio::select! {
            outcome = moving => outcome,
            outcome = self.terms.ending => outcome,
        };
        audit.finish(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_rfc() {
        let digest = Sha1::new().chain_update(b"dGhlIHNhbXBsZSBub25jZQ==").chain_update(MAGIC);
        assert_eq!(STANDARD.encode(digest.finalize()), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
