//! Sets the Bedrock route up from flags, the policy file and the environment.

use std::sync::Arc;

use workspace_common::drain::Drain;

use crate::aws::Aws;
use crate::aws::environment::{self, AwsConfig, EnvironmentError};
use crate::aws::sts::road::{Detour, Road};
use crate::aws::sts::transport::{Dns, Transport};
use crate::classify::Routes;
use crate::cli::AwsArgs;
use crate::config::wire::BedrockWire;
use crate::host::{Host, HostPort, Scheme};
use crate::reverse::BedrockRoute;
use crate::rules::base_url::BaseUrlError;
use crate::rules::{BaseUrl, PlainHttp};
use crate::upstream::Connector;
use crate::upstream::resolve::Resolver;

/// Why the Bedrock route cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AwsSetupError {
    /// The environment holds half a setting or a malformed one.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The endpoint is no base URL.
    #[error("the Bedrock endpoint {0}")]
    Endpoint(#[from] BaseUrlError),
    /// The endpoint has a path, which a signature would have to cover.
    #[error("the Bedrock endpoint must have no path")]
    EndpointPath,
    /// The route is asked for and there is nothing to sign with.
    #[error(
        "the Bedrock route is configured but there are no AWS credentials: set AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )]
    NoCredentials,
}

/// What is known before the runtime starts.
#[derive(Debug)]
pub struct AwsPlan {
    config: AwsConfig,
    endpoint: Option<BaseUrl>,
    catchall: bool,
    body_limit: usize,
}

impl AwsPlan {
    /// Reads the settings; none where nobody asked for the route, whatever credentials the environment
    /// holds. Flags win over the policy file, which wins over `AWS_REGION`.
    ///
    /// # Errors
    /// A setting is incomplete or malformed, or there is nothing to sign with.
    pub fn read(args: &AwsArgs, file: Option<&BedrockWire>) -> Result<Option<Self>, AwsSetupError> {
        if file.is_none() && !asked_for(args) {
            return Ok(None);
        }
        let file = file.cloned().unwrap_or_default();
        let region = args.aws_region.as_ref().or(file.region.as_ref());
        let variable = |name: &str| match (name, region) {
            ("AWS_REGION", Some(region)) => Some(region.clone()),
            _ => std::env::var(name).ok(),
        };
        let endpoint = args.bedrock_endpoint.as_ref().or(file.endpoint.as_ref());
        Ok(Some(Self {
            config: environment::read(variable)?.ok_or(AwsSetupError::NoCredentials)?,
            endpoint: endpoint.map(|url| parse_endpoint(url)).transpose()?,
            catchall: args.bedrock_catchall || file.catchall.unwrap_or(false),
            body_limit: args.body_limit,
        }))
    }

    /// Which routes this makes.
    #[must_use]
    pub const fn routes(&self) -> Routes {
        Routes { bedrock: true, bedrock_catchall: self.catchall }
    }

    /// Starts fetching credentials. Needs the runtime.
    #[must_use]
    pub fn start(
        self,
        tls: rustls::ClientConfig,
        connector: &Arc<Connector>,
        drain: &Drain,
    ) -> BedrockRoute {
        let road = Road::new(dns(connector.resolver.clone()), detour(Arc::clone(connector)));
        let transport = Transport::by(tls, road);
        let aws = Aws::start(self.config, transport, self.body_limit, drain);
        BedrockRoute { aws, endpoint: self.endpoint }
    }
}

fn asked_for(args: &AwsArgs) -> bool {
    let AwsArgs { bedrock, bedrock_catchall, bedrock_endpoint, aws_region, .. } = args;
    *bedrock || *bedrock_catchall || bedrock_endpoint.is_some() || aws_region.is_some()
}

fn parse_endpoint(url: &str) -> Result<BaseUrl, AwsSetupError> {
    // The operator's own setting: a VPC endpoint or a stand-in for tests may be plain http.
    let base = BaseUrl::parse(url.trim_end_matches('/'), PlainHttp::Allowed)?;
    match base.join("", None) {
        Ok(path) if path == "/" => Ok(base),
        Ok(_) | Err(_) => Err(AwsSetupError::EndpointPath),
    }
}

/// The proxy's own calls go where the operator pointed them, so the guard has no part in them.
fn dns(resolver: Resolver) -> Dns {
    Dns::new(move |name| {
        let resolver = resolver.clone();
        async move {
            let host = Host::parse(&name).map_err(std::io::Error::other)?;
            let found = resolver.lookup(&host).await;
            let found = found.map_err(|refusal| std::io::Error::other(refusal.title()))?;
            Ok(found.into_iter().map(|ip| (ip, 0).into()).collect())
        }
    })
}

/// They leave through the upstream proxy like everything else.
fn detour(connector: Arc<Connector>) -> Detour {
    Detour::new(move |uri| {
        let host = Host::parse(uri.host()?).ok()?;
        let via = connector.via(&host)?;
        let port = uri
            .port_u16()
            .or_else(|| Some(uri.scheme_str()?.parse::<Scheme>().ok()?.default_port()))?;
        let (connector, at) = (Arc::clone(&connector), HostPort { host, port });
        Some(Box::pin(async move {
            let tunnel = connector.tunnel(&via, &at).await;
            tunnel.map_err(|refusal| std::io::Error::other(refusal.title()))
        }))
    })
}
