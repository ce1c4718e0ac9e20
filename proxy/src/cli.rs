//! The command line. Every flag has a twin in the environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand};
use workspace_common::client::Endpoint;
use workspace_common::listen::ListenAddr;
use workspace_common::logging::LogFormat;

use crate::admin::RulesNeeded;
use crate::audit::writer::Lines;
use crate::client::{HealthArgs, RulesArgs};
use crate::host::Host;
use crate::limits::LimitArgs;
use crate::policy::pattern::HostPattern;
use crate::upstream::via::address::ProxyAddressError;
use crate::upstream::via::{Names, ViaSettings};

/// The only way out of a workspace: a forward proxy with a whitelist that holds the credentials.
#[derive(Debug, Parser)]
#[command(name = "workspace-proxy", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the proxy
    Serve(Box<ServeArgs>),
    /// Read a policy file and say whether it is in order
    CheckPolicy {
        /// The policy file
        file: PathBuf,
    },
    /// Say what the policy decides about a request, without looking anything up
    Explain(ExplainArgs),
    /// Show, replace or clear the rules of a running proxy
    Rules(RulesArgs),
    /// Ask a running proxy whether it can do its work
    Health(HealthArgs),
}

/// Where the policy comes from. All sources add up; without any, everything is denied.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// Policy file, YAML or JSON
    #[arg(long, env = "WORKSPACE_PROXY_POLICY", value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// Allow HOST, *.HOST, **.HOST or CIDR, with :PORT or for port 443; comma-separated, repeatable
    #[arg(long, env = "WORKSPACE_PROXY_ALLOW", value_name = "LIST", value_delimiter = ',')]
    pub allow: Vec<String>,

    /// Names that are allowed with all their subdomains, ports 80 and 443; comma-separated
    #[arg(
        long,
        env = "PROXY_DOMAIN_WHITELIST",
        value_name = "LIST",
        default_value = "",
        hide_default_value = true
    )]
    pub domain_whitelist: String,
}

/// `explain`
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Where the policy comes from
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Ask a running proxy at this management listener, in place of reading a policy
    #[arg(long, value_name = "ADDRESS")]
    pub connect: Option<Endpoint>,
    /// File with the management token, for --connect
    #[arg(long, env = "WORKSPACE_PROXY_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Have the running proxy look the name up and judge its addresses
    #[arg(long, requires = "connect")]
    pub resolve: bool,
    /// GET, POST, CONNECT, ...
    pub method: String,
    /// An http or https URL, or HOST:PORT for CONNECT
    pub url: String,
}

/// `serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where workspaces connect; repeatable
    #[command(flatten)]
    pub listeners: ListenArgs,
    /// Where the policy comes from
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// The way out
    #[command(flatten)]
    pub upstream: UpstreamArgs,
    /// AWS
    #[command(flatten)]
    pub aws: AwsArgs,
    /// Limits
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Logs
    #[command(flatten)]
    pub logs: LogArgs,
}

/// Listeners.
#[derive(Debug, Args)]
pub struct ListenArgs {
    /// Where workspaces connect: unix:/path[,mode=0660] or tcp:IP:PORT; repeatable, separated by
    /// blanks in the environment
    #[arg(
        long,
        env = "WORKSPACE_PROXY_LISTEN",
        value_name = "ADDRESS",
        value_delimiter = ' ',
        required = true
    )]
    pub listen: Vec<ListenAddr>,

    /// Where the orchestrator connects: rules, health, metrics; repeatable
    #[arg(
        long,
        env = "WORKSPACE_PROXY_ADMIN_LISTEN",
        value_name = "ADDRESS",
        value_delimiter = ' '
    )]
    pub admin_listen: Vec<ListenAddr>,

    /// Name by which the management listeners may be called, besides addresses and localhost;
    /// repeatable
    #[arg(long, env = "WORKSPACE_PROXY_ADMIN_HOST", value_name = "NAME", value_delimiter = ',')]
    pub admin_host: Vec<Host>,

    /// File with the bearer token of the management listeners; needed for every TCP one
    #[arg(long, env = "WORKSPACE_PROXY_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// Answer /readyz with 503 until the orchestrator has sent rules
    #[arg(long, env = "WORKSPACE_PROXY_REQUIRE_RULES", value_parser = BoolishValueParser::new())]
    pub require_rules: bool,

    /// Accept workspaces on a TCP address that other machines reach. Whoever reaches it uses the
    /// credentials
    #[arg(long, env = "WORKSPACE_PROXY_INSECURE_OPEN_LISTEN", value_parser = BoolishValueParser::new())]
    pub insecure_open_listen: bool,
}

impl ListenArgs {
    /// Whether readiness waits for rules.
    #[must_use]
    pub const fn rules_needed(&self) -> RulesNeeded {
        if self.require_rules { RulesNeeded::BeforeReady } else { RulesNeeded::Never }
    }
}

/// The way out.
#[derive(Debug, Args)]
pub struct UpstreamArgs {
    /// PEM file with CA certificates to trust besides Mozilla's
    #[arg(long, env = "WORKSPACE_PROXY_UPSTREAM_CA", value_name = "FILE")]
    pub upstream_ca: Option<PathBuf>,

    /// Name server to ask in place of the system's, IP or IP:PORT; repeatable
    #[arg(
        long,
        env = "WORKSPACE_PROXY_DNS_SERVER",
        value_name = "ADDRESS",
        value_delimiter = ',',
        value_parser = parse_dns_server
    )]
    pub dns_server: Vec<SocketAddr>,

    /// Proxy that everything leaves through, http://HOST:PORT or https://HOST:PORT
    // Text, because the parser's own messages would show a password in it; so would the help.
    #[arg(
        long,
        env = "WORKSPACE_PROXY_UPSTREAM_PROXY",
        value_name = "URL",
        hide_env_values = true
    )]
    pub upstream_proxy: Option<String>,

    /// File with the credential for it: user:password, or a whole Proxy-Authorization value
    #[arg(long, env = "WORKSPACE_PROXY_UPSTREAM_PROXY_AUTH_FILE", value_name = "FILE")]
    pub upstream_proxy_auth_file: Option<PathBuf>,

    /// Hosts and ranges that are connected to directly all the same; comma-separated, repeatable
    #[arg(
        long,
        env = "WORKSPACE_PROXY_UPSTREAM_PROXY_BYPASS",
        value_name = "LIST",
        value_delimiter = ','
    )]
    pub upstream_proxy_bypass: Vec<HostPattern>,

    /// Who looks names up when there is an upstream proxy [default: there]
    #[arg(long, env = "WORKSPACE_PROXY_UPSTREAM_PROXY_NAMES", value_name = "WHERE", value_enum)]
    pub upstream_proxy_names: Option<Names>,

    /// Let rules have http:// base URLs
    #[arg(long, env = "WORKSPACE_PROXY_ALLOW_PLAIN_HTTP_RULES", value_parser = BoolishValueParser::new())]
    pub allow_plain_http_rules: bool,
}

impl UpstreamArgs {
    /// What the flags say about an upstream proxy.
    ///
    /// # Errors
    /// The address is none.
    pub fn via(&self) -> Result<ViaSettings, ProxyAddressError> {
        Ok(ViaSettings {
            proxy: self.upstream_proxy.as_deref().map(str::parse).transpose()?,
            bypass: self.upstream_proxy_bypass.clone(),
            names: self.upstream_proxy_names,
        })
    }
}

/// AWS and the Bedrock route.
#[derive(Debug, Args)]
pub struct AwsArgs {
    /// Serve the Bedrock route; so does a `bedrock` section of the policy file, and each flag below
    /// that concerns it
    #[arg(long, env = "WORKSPACE_PROXY_BEDROCK", value_parser = BoolishValueParser::new())]
    pub bedrock: bool,

    /// Region of the Bedrock route; AWS_REGION and AWS_DEFAULT_REGION are read after this
    #[arg(long, env = "WORKSPACE_PROXY_AWS_REGION", value_name = "REGION")]
    pub aws_region: Option<String>,

    /// Base URL to use in place of the region's own Bedrock endpoints
    #[arg(long, env = "WORKSPACE_PROXY_BEDROCK_ENDPOINT", value_name = "URL")]
    pub bedrock_endpoint: Option<String>,

    /// Take every path that is no other route for a Bedrock path
    #[arg(long, env = "WORKSPACE_PROXY_BEDROCK_CATCHALL", value_parser = BoolishValueParser::new())]
    pub bedrock_catchall: bool,

    /// Largest body that is signed, in bytes
    #[arg(
        long,
        env = "WORKSPACE_PROXY_BODY_LIMIT",
        value_name = "BYTES",
        default_value_t = 26_214_400
    )]
    pub body_limit: usize,
}

/// Logs.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Append the audit lines to this file in place of the standard output
    #[arg(long, env = "WORKSPACE_PROXY_AUDIT_FILE", value_name = "FILE")]
    pub audit_file: Option<PathBuf>,

    /// Refuse requests whose audit line could not be kept, in place of losing the line
    #[arg(long, env = "WORKSPACE_PROXY_REQUIRE_AUDIT", value_parser = BoolishValueParser::new())]
    pub require_audit: bool,

    /// Form of the log on the standard error output
    #[arg(long, env = "WORKSPACE_PROXY_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,

    /// error, warn, info, debug or trace
    #[arg(long, env = "WORKSPACE_PROXY_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

impl LogArgs {
    /// What becomes of requests whose audit lines cannot be kept.
    #[must_use]
    pub const fn audit_lines(&self) -> Lines {
        if self.require_audit { Lines::Required } else { Lines::Wanted }
    }
}

fn parse_dns_server(text: &str) -> Result<SocketAddr, String> {
    text.parse::<SocketAddr>()
        .or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, 53)))
        .map_err(|_ignored| format!("'{text}' is not IP or IP:PORT"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent_and_every_flag_of_serve_has_a_twin() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        let serve = command.find_subcommand("serve").unwrap();
        for flag in
            serve.get_arguments().filter(|a| a.get_id() != "help" && a.get_id() != "version")
        {
            assert!(flag.get_env().is_some(), "{}", flag.get_id());
        }
    }

    #[test]
    fn name_servers_are_parsed() {
        assert_eq!(parse_dns_server("10.0.0.2").unwrap().port(), 53);
        assert_eq!(parse_dns_server("[::1]:5353").unwrap().port(), 5353);
        assert!(parse_dns_server("dns.example").is_err());
    }
}
