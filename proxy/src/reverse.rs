//! Reverse routes: requests that name a route in their path and get its credential on the way out.
//!
//! The route names the destination; the client's `Host` plays no part. Its credential headers are
//! removed before those of the route are set. Without the credential nothing is sent.

use std::sync::Arc;
use std::time::SystemTime;

use http::Request;
use workspace_common::linger::Received;

use crate::answer::{Reply, Terms, exchange};
use crate::audit::{Audit, Outcome};
use crate::aws::bedrock::BedrockTarget;
use crate::aws::{Aws, SigningTarget};
use crate::classify::McpPath;
use crate::context::Context;
use crate::credential::strip_client_credentials;
use crate::forward::{Upload, outgoing};
use crate::host::{Host, HostPort, Scheme};
use crate::policy::{self, Purpose, Question};
use crate::refusal::Refusal;
use crate::rules::{BaseUrl, McpRule, Redaction};
use crate::stream_body::Ending;
use crate::upstream::exchange::unless_idle;
use crate::websocket::Handshake;

/// The Bedrock route.
#[derive(Debug)]
pub struct BedrockRoute {
    /// Signs.
    pub aws: Aws,
    /// Where to send requests in place of the region's own endpoints.
    pub endpoint: Option<BaseUrl>,
}

/// Serves `/mcp/{server}/…`.
///
/// # Errors
/// The refusal to answer with.
pub async fn mcp(
    context: &Context,
    path: &McpPath,
    mut request: Request<Received>,
    audit: &mut Audit,
) -> Result<Reply, Refusal> {
    let rule = context.rules.snapshot().server(&path.server, SystemTime::now())?;
    rule.permits(request.method(), &path.rest)?;
    let purpose = Purpose::Route(rule.name.as_str().into());
    let base = &rule.base;
    let target = base.join(&path.rest, path.query.as_deref())?;
    let to = (base.scheme, &base.host_port);
    let question = Question::request(to, request.method(), target.path());
    let permit = policy::decide_route(&context.policy.current(), purpose, &question)?;
    audit.permitted(&permit);
    context.admit(&permit)?;
    let handshake = Handshake::take(&mut request);
    strip_client_credentials(request.headers_mut(), &rule.strip);
    let limit = context.limits.body(rule.max_request_bytes);
    let upload = Upload { audit, limit, until: Some(revoked(&rule)) };
    let mut request = outgoing(request, &permit, target, upload)?;
    if let Some(handshake) = &handshake {
        handshake.ask(request.headers_mut());
    }
    // After the cleaning, so that a client's `Connection: authorization` cannot take it out again.
    rule.headers.apply(request.headers_mut())?;
    audit.injected(rule.headers.names().map(ToString::to_string).collect());
    let terms = terms(context, &rule);
    let mut reply = exchange(context, &permit, (request, handshake), terms, audit).await?;
    redact(context, &rule, &mut reply);
    Ok(reply)
}

/// Until the rule ends or the process stops.
fn terms(context: &Context, rule: &Arc<McpRule>) -> Terms {
    let stopped = Terms::until_stopped(context);
    let idle = rule.idle_timeout.unwrap_or(stopped.idle);
    let revoked = revoked(rule);
    let ending = Box::pin(async move {
        tokio::select! {
            outcome = stopped.ending => outcome,
            outcome = revoked => outcome,
        }
    });
    Terms { ending, idle }
}

fn revoked(rule: &Arc<McpRule>) -> Ending {
    let rule = Arc::clone(rule);
    Box::pin(async move {
        rule.revoked().await;
        Outcome::Revoked
    })
}

/// An origin that sends the credential back must not hand it to the workspace.
fn redact(context: &Context, rule: &McpRule, reply: &mut Reply) {
    if rule.redaction == Redaction::Headers && rule.headers.redact(reply.headers_mut()) > 0 {
        context.sinks.metrics.leaks.inc();
        tracing::warn!(route = rule.name, "the origin sent an injected header value back");
    }
}

/// Serves the Bedrock route: `path` is path and query as AWS is to see them.
///
/// # Errors
/// The refusal to answer with.
pub async fn bedrock(
    context: &Context,
    path: &str,
    request: Request<Received>,
    audit: &mut Audit,
) -> Result<Reply, Refusal> {
    let route = context.bedrock.as_ref().ok_or(Refusal::UnknownRoute)?;
    let bare = path.split('?').next().unwrap_or(path);
    let target = route.aws.bedrock_target(bare).ok_or(Refusal::UnknownRoute)?;
    let (scheme, at) = route.destination(&target)?;
    let question = Question::request((scheme, &at), request.method(), bare);
    let permit = policy::decide_route(&context.policy.current(), Purpose::Aws, &question)?;
    audit.permitted(&permit);
    audit.aws(target.service.as_str(), target.region.as_str());
    if !target.plane.serves(request.method()) {
        return Err(Refusal::MethodNotAllowed);
    }
    context.admit(&permit)?;
    let path = path.parse().map_err(|_ignored| Refusal::BadPath)?;
    let upload = Upload { audit, limit: context.limits.max_body, until: None };
    let request = outgoing(request, &permit, path, upload)?;
    let signing = SigningTarget {
        authority: at.authority(scheme),
        region: target.region,
        service: target.service,
    };
    let up = audit.counts().up;
    let signing = route.aws.sign(request, &signing);
    let signed = unless_idle(signing, &up, context.limits.idle_timeout).await;
    let request = signed.unwrap_or(Err(Refusal::BadBody))?;
    audit.injected(vec!["authorization".to_owned()]);
    let terms = Terms::until_stopped(context);
    let reply = exchange(context, &permit, (request, None), terms, audit).await?;
    if let Reply::Answer(answer) = &reply {
        route.aws.observe(answer.response.status(), answer.response.headers());
    }
    Ok(reply)
}

impl BedrockRoute {
    /// Whether one of its requests would go there.
    #[must_use]
    pub fn leads_to(&self, at: &HostPort) -> bool {
        // A path for each of the two hosts that it knows.
        let targets =
            ["/async-invoke", "/foundation-models"].map(|path| self.aws.bedrock_target(path));
        let mut hosts = targets.iter().flatten().filter_map(|target| self.destination(target).ok());
        hosts.any(|(_scheme, host)| host == *at)
    }

    fn destination(&self, target: &BedrockTarget) -> Result<(Scheme, HostPort), Refusal> {
        if let Some(base) = &self.endpoint {
            return Ok((base.scheme, base.host_port.clone()));
        }
        let host = Host::parse(&target.host)?;
        Ok((Scheme::Https, HostPort { host, port: Scheme::Https.default_port() }))
    }
}
