//! Reads the policy again: on SIGHUP, and when the policy file has become another one.
//!
//! A ConfigMap that is mounted changes by one rename of its `..data` link, so the file behind the
//! path is another one from one moment to the next, and never half written. The path is looked at
//! once a second: that works on every kind of mount, where notifications do not.
//!
//! Invariant: a policy that cannot be read changes nothing.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{ConfigError, Settings, Sources};
use crate::context::Context;
use crate::limits::LimitArgs;
use crate::server::way_out::WayOut;

/// How often the policy file is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a reload works on.
#[derive(Debug)]
pub struct Reload {
    /// Where the policy comes from.
    pub sources: Sources,
    /// What cannot change while the proxy runs, as it was at the start.
    pub fixed: Fixed,
    /// What the flags say about an upstream proxy.
    pub way_out: WayOut,
    hangup: Signal,
}

/// Keys of the policy file that are read at start only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    bedrock: String,
    allow_plain_http_rules: bool,
    limits: LimitArgs,
}

impl Fixed {
    /// The keys of these settings.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self {
            bedrock: format!("{:?}", settings.bedrock),
            allow_plain_http_rules: settings.allow_plain_http_rules,
            limits: settings.limits,
        }
    }
}

impl Reload {
    /// Takes SIGHUP over: it no longer ends the process.
    ///
    /// # Errors
    /// When the handler cannot be installed.
    pub fn new(sources: Sources, fixed: Fixed, way_out: WayOut) -> std::io::Result<Self> {
        Ok(Self { sources, fixed, way_out, hangup: signal(SignalKind::hangup())? })
    }

    /// Waits for reasons to reload, for as long as the process lives.
    pub async fn watch(mut self, context: Arc<Context>) {
        let mut rounds = tokio::time::interval(INTERVAL);
        let mut known = identity(self.sources.file.as_deref()).await;
        loop {
            let asked = tokio::select! {
                _hangup = self.hangup.recv() => true,
                _round = rounds.tick() => false,
            };
            let now = identity(self.sources.file.as_deref()).await;
            // A file that has gone for the moment is on its way to being another one.
            let changed = now.is_some() && now != known;
            if asked || changed {
                known = now;
                self.reload(&context).await;
            }
        }
    }

    async fn reload(&self, context: &Context) {
        let sources = self.sources.clone();
        // 100,000 rules take a moment; requests go on meanwhile.
        let loading = tokio::task::spawn_blocking(move || Settings::load(&sources));
        let outcome = loading.await.map_err(anyhow::Error::from);
        let outcome = outcome.and_then(|loaded: Result<Settings, ConfigError>| Ok(loaded?));
        let word = if outcome.is_ok() { "applied" } else { "refused" };
        context.sinks.metrics.policy_reloads.with_label_values(&[word]).inc();
        match outcome {
            Ok(settings) => self.apply(context, settings),
            Err(error) => {
                tracing::error!(error = %error, "policy not reloaded: the one before stays in force");
            }
        }
    }

    fn apply(&self, context: &Context, settings: Settings) {
        super::warn_about(&settings);
        if Fixed::of(&settings) != self.fixed {
            tracing::warn!(
                "`bedrock`, `limits` and `rules.allow_plain_http` are read at start only; restart for the new ones"
            );
        }
        let (allow, deny) = (settings.policy.allow_count(), settings.policy.deny_count());
        let connector = context.exchanger.connector();
        connector.resolver.replace_hosts(settings.hosts);
        connector.via.store(self.way_out.via(&settings.via));
        context.policy.replace(settings.policy);
        // What is idle was dialled by the rules of before.
        context.exchanger.pool().clear();
        let revision = context.policy.revision();
        tracing::info!(allow_rules = allow, deny_rules = deny, revision, "policy reloaded");
    }
}

/// Tells one file behind a path from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

async fn identity(path: Option<&Path>) -> Option<Identity> {
    let meta = tokio::fs::metadata(path?).await.ok()?;
    Some(Identity {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
    })
}
