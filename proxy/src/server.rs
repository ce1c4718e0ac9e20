//! Assembly: from the command line to a running proxy and to its end.
//!
//! Listeners are bound and every file is read before the runtime starts, so that a mistake is an
//! error message and an exit code, never a half-working proxy.

pub mod aws_route;
pub mod management;
pub mod memory;
pub mod policy_view;
pub mod reload;
pub mod way_out;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use thiserror::Error;
use tokio::sync::Semaphore;
use workspace_common::drain::{self, Drain, DrainTrigger, StopSignals};
use workspace_common::listen::{BindError, BoundListener, ListenAddr};
use workspace_common::serve::{ServeOptions, serve_each};
use workspace_common::token::{BearerToken, TokenError};

use crate::admin::OwnNames;
use crate::audit::Sinks;
use crate::audit::writer::AuditWriter;
use crate::cli::{ListenArgs, LogArgs, ServeArgs};
use crate::config::{ConfigError, Settings, Sources};
use crate::context::Context;
use crate::limits::Limits;
use crate::limits::rate::HostRate;
use crate::metrics::Metrics;
use crate::policy::Mode;
use crate::policy::live::LivePolicy;
use crate::rules::{PlainHttp, RuleLimits, RuleStore};
use crate::server::aws_route::{AwsPlan, AwsSetupError};
use crate::server::management::Management;
use crate::server::reload::{Fixed, Reload};
use crate::server::way_out::WayOut;
use crate::service;
use crate::upstream::Connector;
use crate::upstream::dial::OwnListeners;
use crate::upstream::exchange::Exchanger;
use crate::upstream::guard::Cluster;
use crate::upstream::pool::MAX_IDLE;
use crate::upstream::resolve::{Resolver, ResolverError, ResolverOptions};
use crate::upstream::tls::{TlsSetupError, client_config};
use crate::upstream::via::address::ProxyAddressError;
use crate::upstream::via::auth::AuthFileError;
use crate::upstream::via::secure::ProxyTls;

/// Why the proxy does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A policy source is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listener cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The token file cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The address of the upstream proxy is none.
    #[error("--upstream-proxy {0}")]
    UpstreamProxy(#[from] ProxyAddressError),
    /// The credential for the upstream proxy cannot be used.
    #[error(transparent)]
    UpstreamProxyAuth(#[from] AuthFileError),
    /// Name resolution cannot be set up.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// A management listener on TCP without a token.
    #[error(
        "management listener {0} needs --admin-token-file: only a Unix socket may do without, and then answers probes and scrapes alone"
    )]
    AdminWithoutToken(ListenAddr),
    /// A workspace listener that other machines reach.
    #[error(
        "{0} can be reached from other machines, which could then use the credentials; listen on a Unix socket or a loopback address, or pass --insecure-open-listen"
    )]
    OpenListener(ListenAddr),
    /// The Bedrock route cannot be set up.
    #[error(transparent)]
    Aws(#[from] AwsSetupError),
    /// The audit log cannot be opened.
    #[error("cannot open the audit log {}: {source}", to.display())]
    Audit {
        /// The file, or the standard output.
        to: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Two metrics share a name.
    #[error("failed to set up metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The runtime or the signal handlers cannot be had.
    #[error("failed to start the runtime: {0}")]
    Runtime(#[source] std::io::Error),
}

/// Runs the proxy until a signal ends it.
///
/// # Errors
/// When it cannot start. Once it runs, it ends only by a signal.
pub fn run(args: &ServeArgs) -> Result<(), StartError> {
    memory::keep_private();
    check_listeners(&args.listeners)?;
    let prepared = Prepared::new(args)?;
    let writer = prepared.sinks.writer.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let result = runtime.block_on(prepared.serve(args));
    writer.flush();
    result
}

fn check_listeners(args: &ListenArgs) -> Result<(), StartError> {
    let is_tcp = |address: &&ListenAddr| matches!(address, ListenAddr::Tcp(_));
    if let Some(open) = args.listen.iter().find(|a| !a.is_local())
        && !args.insecure_open_listen
    {
        return Err(StartError::OpenListener(open.clone()));
    }
    match args.admin_listen.iter().find(is_tcp) {
        Some(open) if args.admin_token_file.is_none() => {
            Err(StartError::AdminWithoutToken(open.clone()))
        }
        _ => Ok(()),
    }
}

/// Connections beyond the limit that are answered at a time.
const TURNED_AWAY: usize = 64;

/// Everything that is read or bound before the runtime starts.
struct Prepared {
    settings: Settings,
    way_out: WayOut,
    tls: rustls::ClientConfig,
    token: Option<BearerToken>,
    aws: Option<AwsPlan>,
    sinks: Arc<Sinks>,
    trigger: DrainTrigger,
    workspace: Vec<BoundListener>,
    admin: Vec<BoundListener>,
}

impl Prepared {
    fn new(args: &ServeArgs) -> Result<Self, StartError> {
        let settings = Settings::load(&Sources::from(&args.policy))?;
        let way_out = WayOut::new(&args.upstream)?;
        way_out.check(&settings.via)?;
        let tls = client_config(args.upstream.upstream_ca.as_deref())?;
        let token =
            args.listeners.admin_token_file.as_deref().map(BearerToken::load).transpose()?;
        let aws = AwsPlan::read(&args.aws, settings.bedrock.as_ref())?;
        let metrics = Metrics::new()?;
        let (trigger, drain) = drain::channel();
        let writer = audit_writer(&args.logs, &metrics)?;
        let sinks = Arc::new(Sinks { writer, metrics, drain });
        Ok(Self {
            settings,
            way_out,
            tls,
            token,
            aws,
            sinks,
            trigger,
            workspace: bind_all(&args.listeners.listen)?,
            admin: bind_all(&args.listeners.admin_listen)?,
        })
    }

    async fn serve(self, args: &ServeArgs) -> Result<(), StartError> {
        let mut signals = StopSignals::install().map_err(StartError::Runtime)?;
        let fixed = Fixed::of(&self.settings);
        let way_out = self.way_out.clone();
        let reload = Reload::new(Sources::from(&args.policy), fixed, way_out)
            .map_err(StartError::Runtime)?;
        warn_about(&self.settings);
        let plan = Plan {
            settings: self.settings,
            way_out: self.way_out,
            tls: self.tls,
            aws: self.aws,
            drain: self.sinks.drain.clone(),
            sinks: self.sinks,
            own: own_listeners(&self.workspace, &self.admin),
        };
        let context = Arc::new(plan.context(args)?);
        tend_pool(&context);
        context.drain.spawn_background(reload.watch(Arc::clone(&context)));
        serve_workspaces(self.workspace, &context)?;
        let management = Management {
            token: self.token,
            rules_needed: args.listeners.rules_needed(),
            hosts: OwnNames::new(args.listeners.admin_host.clone()),
            header_timeout: context.limits.header_timeout,
        };
        // Probes are answered until the last workspace is done, so that they see the drain.
        let (admin_trigger, admin_drain) = drain::channel();
        management::start(self.admin, &context, management, &admin_drain)?;
        announce(&context);
        self.trigger.stop_on(&mut signals, context.limits.drain_timeout).await;
        admin_trigger.start();
        admin_trigger.cut();
        admin_trigger.finished().await;
        Ok(())
    }
}

fn audit_writer(args: &LogArgs, metrics: &Metrics) -> Result<AuditWriter, StartError> {
    let file = args.audit_file.as_deref();
    AuditWriter::start(file, args.audit_lines(), metrics.audit_dropped.clone()).map_err(|source| {
        let to = file.unwrap_or_else(|| Path::new("(standard output)"));
        StartError::Audit { to: to.to_owned(), source }
    })
}

/// Says what the operator may not have meant.
fn warn_about(settings: &Settings) {
    let policy = &settings.policy;
    match policy.mode() {
        Mode::Report => tracing::warn!("report mode: what the lists deny passes all the same"),
        Mode::Enforce if policy.allow_count() == 0 => {
            tracing::warn!("no allow rule: every destination is denied");
        }
        Mode::Enforce => {}
    }
    for warning in &settings.warnings {
        tracing::warn!(%warning, "a rule may not do what it was meant to");
    }
}

fn announce(context: &Context) {
    let policy = context.policy.current();
    let via = context.exchanger.connector().via.load();
    tracing::info!(
        upstream_proxy = via.as_deref().map(|via| tracing::field::display(via.at())),
        allow_rules = policy.allow_count(),
        deny_rules = policy.deny_count(),
        bedrock = context.bedrock.is_some(),
        "serving"
    );
}

fn bind_all(addresses: &[ListenAddr]) -> Result<Vec<BoundListener>, StartError> {
    addresses.iter().map(|address| address.bind().map_err(StartError::from)).collect()
}

fn own_listeners(workspace: &[BoundListener], admin: &[BoundListener]) -> OwnListeners {
    let tcp = |listener: &BoundListener| match listener.address() {
        ListenAddr::Tcp(address) => Some(*address),
        ListenAddr::Unix { .. } => None,
    };
    let addresses: Vec<SocketAddr> = workspace.iter().chain(admin).filter_map(tcp).collect();
    OwnListeners::new(addresses)
}

/// What the context is made from.
struct Plan {
    settings: Settings,
    way_out: WayOut,
    tls: rustls::ClientConfig,
    aws: Option<AwsPlan>,
    sinks: Arc<Sinks>,
    own: OwnListeners,
    drain: Drain,
}

impl Plan {
    fn context(self, args: &ServeArgs) -> Result<Context, StartError> {
        let limits = Limits::of(args.limits.or(self.settings.limits));
        let resolver = Resolver::new(ResolverOptions {
            servers: args.upstream.dns_server.clone(),
            hosts: self.settings.hosts,
            timeout: limits.dns_timeout,
        })?;
        let routes = self.aws.as_ref().map(AwsPlan::routes).unwrap_or_default();
        let connector = Arc::new(Connector {
            resolver,
            own: self.own,
            cluster: Cluster::from_environment(),
            connect_timeout: limits.connect_timeout,
            proxy_tls: ProxyTls::new(self.tls.clone()),
            via: ArcSwapOption::new(self.way_out.via(&self.settings.via)),
        });
        let start = |plan: AwsPlan| plan.start(self.tls.clone(), &connector, &self.drain);
        let bedrock = self.aws.map(start);
        let plain_http =
            args.upstream.allow_plain_http_rules || self.settings.allow_plain_http_rules;
        let tunnels = limits.max_tunnels.min(Semaphore::MAX_PERMITS);
        Ok(Context {
            policy: LivePolicy::new(self.settings.policy),
            routes,
            exchanger: Exchanger::new(connector, self.tls, self.drain.clone()),
            rules: RuleStore::new(rule_limits(plain_http)),
            bedrock,
            sinks: self.sinks,
            limits,
            host_rate: limits.host_rate.map(HostRate::new),
            tunnels: Arc::new(Semaphore::new(tunnels)),
            drain: self.drain,
        })
    }
}

fn rule_limits(plain_http: bool) -> RuleLimits {
    let plain_http = if plain_http { PlainHttp::Allowed } else { PlainHttp::Refused };
    RuleLimits { plain_http, ..RuleLimits::default() }
}

fn serve_workspaces(
    listeners: Vec<BoundListener>,
    context: &Arc<Context>,
) -> Result<(), StartError> {
    let (refused, limits) = (Arc::clone(context), context.limits);
    let options = ServeOptions::new(limits.max_connections, limits.header_timeout)
        .turning_away(TURNED_AWAY)
        .on_malformed(move |peer, what| service::malformed(&refused, peer, what));
    for listener in listeners {
        let listener = listener.into_async().map_err(StartError::Runtime)?;
        tracing::info!(address = %listener.address(), "listening for workspaces");
        let context = Arc::clone(context);
        let drain = context.drain.clone();
        let serve_one = move |stream, peer, welcome| {
            service::connection(Arc::clone(&context), (stream, peer), welcome)
        };
        drain.spawn(serve_each(listener, options.clone(), drain.clone(), serve_one));
    }
    Ok(())
}

/// Closes upstream connections that have been idle for too long, and all idle ones when the process
/// stops: their tasks would keep it alive.
fn tend_pool(context: &Arc<Context>) {
    let pool = Arc::clone(context.exchanger.pool());
    let drain = context.drain.clone();
    context.drain.spawn(async move {
        let mut rounds = tokio::time::interval(MAX_IDLE);
        loop {
            tokio::select! {
                () = drain.started() => return pool.close(),
                _round = rounds.tick() => pool.sweep(),
            }
        }
    });
}

#[cfg(test)]
mod tests;
