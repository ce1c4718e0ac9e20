//! Starting and stopping the agent. The order is the point: listeners are bound in the network the
//! container came with, then the process leaves it, then the forwards are bound inside, and only
//! then does the runtime start its threads, because unshare(2) needs a process with one.

use std::{
    collections::BTreeSet, ffi::OsString, num::NonZero, process::ExitCode, sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::{
    fs::Mode,
    io::Errno,
    process::{Resource, Rlimit, getpid, getrlimit, getuid, set_child_subreaper, setrlimit, umask},
};
use serde_json::json;
use workspace_common::{
    drain::{self, Drain, StopSignals},
    listen::{BoundListener, ListenAddr},
    logging,
    serve::{ServeOptions, serve as serve_listener},
    token::BearerToken,
};

use crate::{
    cli::ServeArgs,
    environment::Environment,
    events::EventsContext,
    exec::{ExecContext, request::Defaults},
    files::{
        FilesContext, Root,
        transfer::Transfers,
        upload::{keep_tidy, store::Limits},
    },
    forward::{self, BoundForward, spec::ForwardSpec},
    isolate::{self, Network},
    metrics::Metrics,
    preview::Previews,
    router::Agent,
    seccomp::{self, Seccomp},
    supervise::{
        Engine, Settings,
        cgroup::Cgroups,
        output::{budget::Budget, spool::SpoolDirectory},
        reap::Reaper,
        table::{Keep, Table},
        tree::Sweep,
    },
    sync::SyncContext,
    sys,
};

/// Descriptors that the agent's parent may have left open are looked for up to here.
const HIGHEST_INHERITED: i32 = 1024;
/// Files are made as every shell makes them, whatever the agent's parent wanted of its own.
const DEFAULT_UMASK: u32 = 0o022;
/// How many entries are looked at for what an earlier agent has left half-written. It is done beside
/// the serving; as many as a push may have.
const MAX_SWEPT_ENTRIES: u64 = 2_000_000;
/// Time between TERM and KILL for what commands have left running, when the agent stops.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
/// Transfers at once. Each holds a blocking thread for as long as its client takes.
const MAX_TRANSFERS: usize = 64;
/// Blocking threads: those of all transfers, and some for the quick file calls beside them.
const BLOCKING_THREADS: usize = MAX_TRANSFERS + 32;

/// Everything that was set up while the process had one thread.
struct Prepared {
    listeners: Vec<BoundListener>,
    forwards: Vec<BoundForward>,
    network: Network,
    seccomp: Seccomp,
    token: Option<BearerToken>,
    environment: Environment,
    root: Arc<Root>,
}

/// Serves until SIGTERM.
///
/// # Errors
/// When something the operator asked for cannot be had; then nothing was served.
pub fn serve(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    logging::init(args.log_format, &args.log_level).map_err(anyhow::Error::msg)?;
    sys::hold_stop_signals().context("cannot hold signals back")?;
    let prepared = prepare(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(run(args, prepared));
    // A thread that hangs in a file call must not hold the end up.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

/// One thread more than processors: each processor may have a command start on it, and somebody serves.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).saturating_add(1)
}

fn prepare(args: &ServeArgs) -> anyhow::Result<Prepared> {
    let token = args.token_file.as_deref().map(BearerToken::load).transpose()?;
    refuse_open_listeners(args, token.as_ref())?;
    sys::close_inherited_on_exec(HIGHEST_INHERITED);
    disable_core_dumps()?;
    raise_descriptor_limit();
    umask(Mode::from_raw_mode(DEFAULT_UMASK));
    let listeners = bind_all(&args.listen)?;
    let network = isolate::enter(args.isolate_net)?;
    isolate::harden().context("cannot protect the agent from its commands (prctl)")?;
    let seccomp = seccomp::enter(args.seccomp)?;
    let forwards = forward::bind_all(&args.forward)?;
    adopt_orphans()?;
    let root = Root::open(&args.root)
        .with_context(|| format!("cannot use '{}' as the root (--root)", args.root.display()))?;
    let environment = environment(args, std::env::vars_os())?;
    // Everything of it that is needed has been read.
    sys::wipe_environment();
    Ok(Prepared { listeners, forwards, network, seccomp, token, environment, root: Arc::new(root) })
}

/// Whoever reaches an open port would run commands: that is never a default.
fn refuse_open_listeners(args: &ServeArgs, token: Option<&BearerToken>) -> anyhow::Result<()> {
    let open = args.listen.iter().find(|address| !address.is_local());
    if let (Some(address), None, false) = (open, token, args.insecure_no_auth) {
        bail!(
            "--listen {address} is open to other machines and has no token: \
             give --token-file, or --insecure-no-auth if something else protects it"
        );
    }
    Ok(())
}

fn bind_all(addresses: &[ListenAddr]) -> anyhow::Result<Vec<BoundListener>> {
    Ok(addresses.iter().map(ListenAddr::bind).collect::<Result<_, _>>()?)
}

/// Makes what commands leave behind our children. PID 1 has them in any case, so a kernel that has no
/// such call (gVisor) is no obstacle.
fn adopt_orphans() -> anyhow::Result<()> {
    match set_child_subreaper(Some(getpid())) {
        Err(Errno::INVAL) => {
            if !getpid().is_init() {
                tracing::warn!("this kernel gives orphans to PID 1 only, which this agent is not");
            }
            Ok(())
        }
        other => other.context("cannot adopt orphans (prctl, PR_SET_CHILD_SUBREAPER)"),
    }
}

/// A core file of a command would fill the workspace; one that wants it asks for it. The agent's own
/// memory is never written to one: it is not dumpable.
fn disable_core_dumps() -> anyhow::Result<()> {
    let none = Rlimit { current: Some(0), ..getrlimit(Resource::Core) };
    setrlimit(Resource::Core, none).context("cannot disable core dumps (setrlimit)")
}

/// Every command takes a few descriptors of ours. As many as the container grants are taken.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
}

fn environment(
    args: &ServeArgs,
    own: impl Iterator<Item = (OsString, OsString)>,
) -> anyhow::Result<Environment> {
    let forward = || args.forward.iter().find_map(ForwardSpec::proxy_url);
    let proxy = args.proxy_url.clone().or_else(forward);
    let mut environment = Environment::base(own, proxy.as_deref());
    for (name, value) in &args.command_env {
        environment.set(name, value);
    }
    environment.entries().map_err(anyhow::Error::msg).context("--command-env")?;
    Ok(environment)
}

async fn run(args: &ServeArgs, prepared: Prepared) -> anyhow::Result<()> {
    let mut signals = StopSignals::install().context("cannot handle signals")?;
    sys::release_stop_signals().context("cannot let signals through")?;
    // Commands and forwards stop first. Until they have, and then until whoever listens has saved what
    // it wants, everything else is served: probes see the stop, and the work can still be fetched.
    let (work_trigger, drain) = drain::channel();
    let (saving_trigger, saving) = drain::channel();
    let (calls_trigger, calls) = drain::channel();
    let metrics = metrics(&prepared)?;
    let reaper = Reaper::start(&drain).context("cannot handle SIGCHLD")?;
    let keep = Keep { count: usize::try_from(args.keep_ended)?, time: args.keep_ended_for };
    let table = Table::start(keep, &drain);
    let engine = Engine::new(reaper, drain.clone(), metrics.clone(), table, settings(args));
    let info = info(args, &prepared, engine.cgroups());
    let previews = Previews::new(own_ports(&prepared), drain.clone());
    let defaults = Defaults {
        root: args.root.clone(),
        environment: prepared.environment,
        spool: spool(args)?,
    };
    let events = EventsContext {
        bulletin: engine.bulletin().clone(),
        boot: engine.boot().to_owned(),
        stop: drain.clone(),
        saving: saving.clone(),
        end: calls.clone(),
        drain_timeout: args.drain_timeout,
    };
    let exec = Arc::new(ExecContext { engine, defaults });
    for forward in prepared.forwards {
        forward.start(&drain, &metrics).context("cannot start a forward")?;
    }
    sweep(&drain, prepared.root.clone());
    let transfers = Transfers::new(MAX_TRANSFERS);
    let sync = SyncContext::new(prepared.root.clone(), transfers.clone())
        .of_this_life(exec.engine.boot(), calls.clone());
    save_changes(&saving, &sync);
    let agent = Arc::new(Agent {
        exec: exec.clone(),
        events,
        files: files_context(args, &drain, prepared.root, transfers)?,
        sync,
        previews,
        metrics,
        token: prepared.token,
        drain: drain.clone(),
        network: prepared.network,
        seccomp: prepared.seccomp,
        info,
    });
    let max_connections = usize::try_from(args.max_connections)?;
    let options = ServeOptions::new(max_connections, args.header_timeout);
    for listener in prepared.listeners {
        start_listener(listener, &options, &calls, agent.clone())?;
    }
    drain.spawn(end_leftovers(exec.clone()));
    let stages = [&work_trigger, &saving_trigger, &calls_trigger];
    drain::stop_in_order(&stages, &mut signals, args.drain_timeout).await;
    // Whoever is left now was not to be ended in time.
    let Sweep { killed, survivors } = exec.engine.end_all(Duration::ZERO).await;
    tracing::info!(killed, ?survivors, "stopped");
    Ok(())
}

fn metrics(prepared: &Prepared) -> anyhow::Result<Arc<Metrics>> {
    let metrics = Metrics::new().context("cannot register the metrics")?;
    metrics.network_is(prepared.network);
    metrics.seccomp_is(prepared.seccomp);
    Ok(Arc::new(metrics))
}

/// Ends what commands have left running once none runs any more: a part of the first stage, so that it
/// has its time within the stop's.
async fn end_leftovers(exec: Arc<ExecContext>) {
    exec.engine.idle().await;
    let Sweep { killed, survivors } = exec.engine.end_all(LEFTOVER_GRACE).await;
    tracing::info!(killed, ?survivors, "ended what commands had left running");
}

/// Holds the stop up until what has changed since it was last asked for has been pulled. Nobody has
/// asked: nothing is waited for.
fn save_changes(saving: &Drain, sync: &SyncContext) {
    let (stage, cursors, root) = (saving.clone(), sync.cursors.clone(), sync.root.clone());
    saving.spawn(async move {
        stage.started().await;
        tokio::select! {
            () = cursors.all_pulled(&root) => {}
            () = stage.cut() => {}
        }
    });
}

fn settings(args: &ServeArgs) -> Settings {
    let name = format!("{}-{:08x}", std::process::id(), fastrand::u32(..));
    let claim = || {
        Cgroups::claim(&name)
            .inspect_err(|error| tracing::debug!(%error, "commands get no cgroups of their own"))
            .ok()
    };
    Settings {
        max_processes: args.max_processes,
        output_memory: args.output_memory.as_usize(),
        cgroups: args.cgroup.is_wanted().then(claim).flatten(),
    }
}

/// The spool directory, proved to be writable: a command that wants it comes later.
fn spool(args: &ServeArgs) -> anyhow::Result<Option<SpoolDirectory>> {
    let Some(path) = args.spool_dir.clone() else { return Ok(None) };
    let total = Budget::new(args.spool_total.as_usize());
    let directory = SpoolDirectory { path, limit: args.spool_limit.0, total };
    directory
        .create()
        .with_context(|| format!("cannot write into --spool-dir '{}'", directory.path.display()))?;
    Ok(Some(directory))
}

/// The ports of the agent itself, which is no server of the workspace's.
fn own_ports(prepared: &Prepared) -> BTreeSet<u16> {
    let forwards = prepared.forwards.iter().filter_map(BoundForward::port);
    // In a network of their own, commands may serve on the numbers that the agent has outside.
    let listeners = prepared.listeners.iter().filter(|_| prepared.network != Network::Private);
    let listeners = listeners.filter_map(|listener| match listener.address() {
        ListenAddr::Tcp(address) => Some(address.port()),
        ListenAddr::Unix { .. } => None,
    });
    forwards.chain(listeners).collect()
}

fn start_listener(
    listener: BoundListener,
    options: &ServeOptions,
    drain: &Drain,
    agent: Arc<Agent>,
) -> anyhow::Result<()> {
    let address = listener.address().clone();
    let listener = listener.into_async().with_context(|| format!("cannot serve on {address}"))?;
    drain.spawn(serve_listener(listener, options.clone(), drain.clone(), move |request, _peer| {
        let agent = agent.clone();
        async move { agent.answer(request).await }
    }));
    tracing::info!(%address, "listening");
    Ok(())
}

fn files_context(
    args: &ServeArgs,
    drain: &Drain,
    root: Arc<Root>,
    transfers: Transfers,
) -> anyhow::Result<FilesContext> {
    let limits = Limits {
        count: usize::try_from(args.max_uploads)?,
        bytes: args.upload_space.0,
        keep: args.upload_keep,
    };
    let files = FilesContext::new(root, transfers, limits);
    drain.spawn_background(keep_tidy(files.uploads.clone()));
    Ok(files)
}

/// Removes what an agent that was killed left half-written, without holding the start up.
fn sweep(drain: &Drain, root: Arc<Root>) {
    drain.spawn_background(async move {
        let swept =
            tokio::task::spawn_blocking(move || root.sweep_temporaries(MAX_SWEPT_ENTRIES)).await;
        tracing::debug!(?swept, "looked for temporary files of an earlier agent");
    });
}

fn info(args: &ServeArgs, prepared: &Prepared, cgroups: Option<&Cgroups>) -> serde_json::Value {
    json!({
        "name": "workspace-agent",
        "version": env!("CARGO_PKG_VERSION"),
        "api_versions": ["v1"],
        "uid": getuid().as_raw(),
        "pid": std::process::id(),
        "root": args.root,
        "network": prepared.network.as_str(),
        "seccomp": prepared.seccomp.as_str(),
        "cgroup": cgroups.map(Cgroups::directory),
        "forwards": args.forward.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "limits": {
            "max_processes": args.max_processes,
            "keep_ended": args.keep_ended,
            "keep_ended_for_ms": millis(args.keep_ended_for),
            "output_memory_bytes": args.output_memory.0,
            "spool_bytes": args.spool_dir.as_ref().map(|_| args.spool_limit.0),
            "spool_total_bytes": args.spool_dir.as_ref().map(|_| args.spool_total.0),
            "max_connections": args.max_connections,
            "max_uploads": args.max_uploads,
            "upload_space_bytes": args.upload_space.0,
            "upload_keep_ms": millis(args.upload_keep),
            "drain_timeout_ms": millis(args.drain_timeout),
        },
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
