//! The command line, as an operator types it. What it means is decided in [`crate::server`] and
//! [`crate::client`].

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use workspace_common::{client::Endpoint, listen::ListenAddr, logging::LogFormat, size::ByteSize};

use crate::{
    client::{
        attach::AttachArgs, exec::ExecArgs, get::GetArgs, health::HealthArgs, kill::KillArgs,
        list::ListArgs, logs::LogsArgs, ps::PsArgs, pull::PullArgs, push::PushArgs, put::PutArgs,
        watch::WatchArgs,
    },
    forward::spec::ForwardSpec,
    isolate::Wanted,
    seccomp,
};

/// Runs commands and moves files inside a workspace container, for an orchestrator outside of it.
#[derive(Debug, Parser)]
#[command(name = "workspace-agent", version, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands: the server, and clients of it.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the workspace; the entry point of the container, as PID 1 or not
    Serve(Box<ServeArgs>),
    /// Run a command in the workspace; its output and exit code become ours
    Exec(Client<ExecArgs>),
    /// Join a command that runs; Ctrl-P Ctrl-Q leaves its terminal again
    Attach(Client<AttachArgs>),
    /// List the commands that run or have ended lately
    Ps(Client<PsArgs>),
    /// Print the output of a detached command
    Logs(Client<LogsArgs>),
    /// End a detached command and everything it started, or signal it
    Kill(Client<KillArgs>),
    /// Copy a local directory into the workspace
    Push(Client<PushArgs>),
    /// Copy a directory of the workspace here
    Pull(Client<PullArgs>),
    /// Copy a file into the workspace; a large one goes on after a broken connection
    Put(Client<PutArgs>),
    /// Copy a file of the workspace here; it goes on after a broken connection
    Get(Client<GetArgs>),
    /// List a directory of the workspace
    Ls(Client<ListArgs>),
    /// Print what changes in a directory of the workspace, as it happens
    Watch(Client<WatchArgs>),
    /// Ask whether the agent answers; exit code 0 if it does (for HEALTHCHECK)
    Health(Client<HealthArgs>),
}

/// A client subcommand and the server it talks to.
#[derive(Debug, Args)]
pub struct Client<T: Args> {
    /// The agent's address: unix:/path/to.sock or http://HOST:PORT
    #[arg(
        long,
        env = "WORKSPACE_AGENT_ADDR",
        value_name = "ADDR",
        default_value = "unix:/run/workspace/agent.sock"
    )]
    pub connect: Endpoint,
    /// File with the token to present
    #[arg(long, env = "WORKSPACE_AGENT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The subcommand's own arguments.
    #[command(flatten)]
    pub args: T,
}

/// Settings of the server.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to serve on; repeat for several. unix:/path[,mode=0660] or tcp:IP:PORT
    #[arg(
        long,
        env = "WORKSPACE_AGENT_LISTEN",
        value_name = "ADDR",
        value_delimiter = ' ',
        default_value = "unix:/run/workspace/agent.sock"
    )]
    pub listen: Vec<ListenAddr>,

    /// Directory that file calls are confined to and that commands start in
    #[arg(long, env = "WORKSPACE_AGENT_ROOT", value_name = "DIR", default_value = "/workspace")]
    pub root: PathBuf,

    /// Loopback port for commands that leads to a Unix socket, or through the proxy to a service;
    /// repeat for several. 127.0.0.1:8080=unix:/run/workspace/proxy.sock,
    /// 127.0.0.1:3306=connect:HOST:PORT[,via=unix:/path]
    #[arg(long, env = "WORKSPACE_AGENT_FORWARD", value_name = "FORWARD", value_delimiter = ' ')]
    pub forward: Vec<ForwardSpec>,

    /// Whether commands get a network namespace of their own, which holds nothing but loopback
    #[arg(long, env = "WORKSPACE_AGENT_ISOLATE_NET", value_enum, default_value = "auto")]
    pub isolate_net: Wanted,

    /// Whether commands run under the agent's seccomp filter: no new namespaces, mounts, BPF
    /// programs, kernel keys, and no sockets but Unix, TCP, UDP and routing queries
    #[arg(long, env = "WORKSPACE_AGENT_SECCOMP", value_enum, default_value = "auto")]
    pub seccomp: seccomp::Wanted,

    /// File with the token that callers must present; without one, whoever can connect may call
    #[arg(long, env = "WORKSPACE_AGENT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Serve on a non-loopback TCP address without a token: anybody who reaches it runs commands
    #[arg(
        long,
        env = "WORKSPACE_AGENT_INSECURE_NO_AUTH",
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    pub insecure_no_auth: bool,

    /// Proxy URL in the environment of commands [default: the first --forward to a socket]
    #[arg(long, env = "WORKSPACE_AGENT_PROXY_URL", value_name = "URL")]
    pub proxy_url: Option<String>,

    /// Variable that every command gets in its environment; repeat for several
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub command_env: Vec<(String, String)>,

    /// Commands that may run at once
    #[arg(long, env = "WORKSPACE_AGENT_MAX_PROCESSES", value_name = "N", default_value_t = 1024)]
    pub max_processes: u32,

    /// Detached commands that are remembered after their end
    #[arg(long, env = "WORKSPACE_AGENT_KEEP_ENDED", value_name = "N", default_value_t = 256)]
    pub keep_ended: u32,

    /// How long a detached command is remembered after its end
    #[arg(long, env = "WORKSPACE_AGENT_KEEP_ENDED_FOR", value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    pub keep_ended_for: Duration,

    /// Memory for the output that is kept of all commands together, as in 256MiB
    #[arg(
        long,
        env = "WORKSPACE_AGENT_OUTPUT_MEMORY",
        value_name = "SIZE",
        default_value = "256MiB"
    )]
    pub output_memory: ByteSize,

    /// Directory for the whole output of commands that ask for it (spool)
    #[arg(long, env = "WORKSPACE_AGENT_SPOOL_DIR", value_name = "DIR")]
    pub spool_dir: Option<PathBuf>,

    /// The most that is spooled of one stream
    #[arg(long, env = "WORKSPACE_AGENT_SPOOL_LIMIT", value_name = "SIZE", default_value = "1GiB")]
    pub spool_limit: ByteSize,

    /// The most that is spooled of all streams together
    #[arg(long, env = "WORKSPACE_AGENT_SPOOL_TOTAL", value_name = "SIZE", default_value = "4GiB")]
    pub spool_total: ByteSize,

    /// Uploads in several requests that may be unfinished at once
    #[arg(long, env = "WORKSPACE_AGENT_MAX_UPLOADS", value_name = "N", default_value_t = 64)]
    pub max_uploads: u32,

    /// Room for all unfinished uploads together, in the root
    #[arg(
        long,
        env = "WORKSPACE_AGENT_UPLOAD_SPACE",
        value_name = "SIZE",
        default_value = "64GiB"
    )]
    pub upload_space: ByteSize,

    /// How long an unfinished upload is kept that nobody goes on with
    #[arg(long, env = "WORKSPACE_AGENT_UPLOAD_KEEP", value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    pub upload_keep: Duration,

    /// Whether each command gets a cgroup, where the container lets the agent make them
    #[arg(long, env = "WORKSPACE_AGENT_CGROUP", value_enum, default_value = "auto")]
    pub cgroup: CgroupUse,

    /// Connections that may be open at once
    #[arg(long, env = "WORKSPACE_AGENT_MAX_CONNECTIONS", value_name = "N", default_value_t = 4096)]
    pub max_connections: u32,

    /// How long a client may take to send a request head, and how long an idle connection is kept
    #[arg(long, env = "WORKSPACE_AGENT_HEADER_TIMEOUT", value_name = "TIME", default_value = "120s", value_parser = humantime::parse_duration)]
    pub header_timeout: Duration,

    /// How long the stop may take: after SIGTERM commands are ended, and calls may finish
    #[arg(long, env = "WORKSPACE_AGENT_DRAIN_TIMEOUT", value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,

    /// How log lines look
    #[arg(long, env = "WORKSPACE_AGENT_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace
    #[arg(long, env = "WORKSPACE_AGENT_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
}

/// Whether commands get cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CgroupUse {
    /// Where version 2 is mounted and may be written.
    Auto,
    /// Never.
    Off,
}

impl CgroupUse {
    /// Whether they are to be tried.
    pub fn is_wanted(self) -> bool {
        self == Self::Auto
    }
}

/// Reads `NAME=VALUE`.
///
/// # Errors
/// When there is no `=`, or nothing before it.
pub fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_but_the_variables_has_an_environment_twin() {
        let serve = Cli::command();
        let serve = serve.find_subcommand("serve").unwrap();
        for arg in serve.get_arguments().filter(|arg| arg.get_id() != "command_env") {
            let name = format!("WORKSPACE_AGENT_{}", arg.get_id().as_str().to_uppercase());
            assert_eq!(arg.get_env(), Some(std::ffi::OsStr::new(&name)));
        }
    }
}
