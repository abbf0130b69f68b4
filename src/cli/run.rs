//! `waymark run`: the server. The only place that wires the planes together.
//!
//! ```text
//! load ─► compile ─► control loop ─► probes … first round … ─► listen ─► SIGHUP reloads, SIGTERM ends
//! ```

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

use super::{ConfigArg, End, load, output};
use crate::admin::{self, Api};
use crate::config::{self, Admin, Configuration, Server, Stamp, Tcp, Tls};
use crate::control::certificates;
use crate::control::cookies::Jar;
use crate::control::journal::{self, Journal, Kind, Record};
use crate::control::last_good::{self, Clock, Keeper, LastGood};
use crate::control::latency::Gauge;
use crate::control::renewal::{self, Look, POLL, Watch};
use crate::control::resolution::{Found, Resolution};
use crate::control::supply::Given;
use crate::control::{
    self, Change, Changes, GeoNews, GeoRefusal, Notifier, Sources, State, Store, Succession, World, explain,
};
use crate::dns::Name;
use crate::idle;
use crate::metrics::Registry;
use crate::probe::{self, Prober};
use crate::problem::render;
use crate::serve::{BindError, Encrypted, Inbox, Limits, Listeners, Running, TRANSFERS, raise_descriptor_limit};
use crate::snapshot::Published;
use crate::time::{self, unix_milliseconds, unix_nanoseconds};
use crate::tls::Certificates;

/// Reports of probes that may wait; probes wait when there are more.
const REPORTS: usize = 1024;
/// How long a start waits at most for the addresses of targets.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a reload may yield to answering.
const RELOAD_PATIENCE: Duration = Duration::from_secs(300);
/// Longest that the end waits for the disk.
const DISK_PATIENCE: Duration = Duration::from_millis(300);
/// Libraries that log what strangers send them.
const QUIET: &str = "h2=off,hyper=off,h3=off,quinn=off,quinn_proto=off,quinn_udp=off";
/// Longest that the end waits for the reader of the log.
const LOG_PATIENCE: Duration = Duration::from_millis(500);

/// Serve: answer queries, check instances, reload on SIGHUP, end on SIGTERM
#[derive(Args, Debug)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    log: LogArgs,
}

/// How to log, to standard error.
#[derive(Args, Debug)]
pub(super) struct LogArgs {
    /// What to log: error, warn, info, debug, or a filter as `waymark=debug,reqwest=warn`
    #[arg(long, env = "WAYMARK_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// How a line of the log looks
    #[arg(long, default_value = "human", value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people
    Human,
    /// One JSON object a line
    Json,
}

impl LogArgs {
    /// Starts logging, in a thread of its own: a reader that stops costs lines, not answers. Ends with the guard, which
    /// writes out what is left.
    pub(super) fn start(&self) -> Result<WorkerGuard, End> {
        // What is named in `--log` is believed more than what stands before it.
        let filter = EnvFilter::try_new(format!("{QUIET},{}", self.log)).map_err(|problem| {
            output::error(&format!("--log {}: {problem}", self.log));
            End::Wrong
        })?;
        let (writer, guard) = tracing_appender::non_blocking(io::stderr());
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(writer)
            .with_ansi(io::stderr().is_terminal())
            .with_target(false);
        match self.log_format {
            LogFormat::Human => builder.init(),
            LogFormat::Json => builder.json().init(),
        }
        Ok(guard)
    }
}

impl Run {
    pub(super) fn run(self) -> End {
        let path = self.config.path();
        let configuration = match load(&path) {
            Ok(configuration) => configuration,
            Err(end) => return end,
        };
        let guard = match self.log.start() {
            Ok(guard) => guard,
            Err(end) => return end,
        };
        let Some(runtime) = runtime() else { return End::Failed };
        let end = runtime.block_on(async {
            match Node::start(configuration, &path).await {
                Ok(mut node) => {
                    node.until_ended().await;
                    node.stop().await;
                    End::Done
                }
                Err(problem) => {
                    output::error(&problem);
                    End::Failed
                }
            }
        });
        // Whatever still hangs (a resolver, a probe) is not waited for.
        runtime.shutdown_timeout(Duration::ZERO);
        finish_log(guard);
        end
    }
}

/// Writes out what is left of the log, unless its reader has stopped: the end is not put off for it (SPEC 8.8).
fn finish_log(guard: WorkerGuard) {
    let (done, written) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(guard);
        // Nobody waits any more when it took too long.
        let _ = done.send(());
    });
    let _ = written.recv_timeout(LOG_PATIENCE);
}

/// The runtime of the control plane.
pub(super) fn runtime() -> Option<tokio::runtime::Runtime> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("control").enable_all().build();
    runtime.inspect_err(|problem| output::error(&format!("cannot start threads: {problem}"))).ok()
}

/// A server that runs.
pub(super) struct Node {
    reloader: Reloader,
    ready: Arc<AtomicBool>,
    hangup: Signal,
    ending: Ending,
    /// `None` when it was told to end before it answered.
    running: Option<Running>,
    /// Writes last-good health.
    keeper: Option<Keeper>,
    journal: Journal,
    /// Has round-trip times.
    gauge: Option<Gauge>,
    /// Held while the server runs.
    lock: Option<File>,
}

impl Node {
    /// Starts everything for `configuration`, which `path` holds; returns once queries are answered, or when a signal says
    /// that it is to end.
    pub(super) async fn start(configuration: Configuration, path: &Path) -> Result<Node, String> {
        // From the beginning: a SIGHUP that nobody waits for would kill.
        let signals = signal(SignalKind::hangup()).and_then(|hangup| Ok((hangup, Ending::new()?)));
        let (hangup, mut ending) = signals.map_err(|error| format!("cannot wait for signals: {error}"))?;
        let mut configuration = configuration;
        let resolution = resolve_first(&mut configuration).await;
        let world = World::compile(configuration);
        let (server, settings) = (world.server.clone(), world.admin.clone());
        for failed in explain::failed_tests(&world) {
            tracing::error!("{failed}");
        }
        let lock = lock(&server.state_dir)?;
        let mut sources = Sources::start(&server.state_dir, &world);
        let (given, _) = sources.take_given();
        let world = Arc::new(supplied(world, &given));
        tell_left_out(&[], &world.left_out);
        // What cannot be bound is said now, not after the first round of checks.
        let encrypted = world.tls.as_ref().map(encrypted);
        drop(bind(&server, encrypted.as_ref(), 1).map_err(|problem| problem.to_string())?);
        let admin = TcpListener::bind(world.admin.listen).await;
        let admin = admin.map_err(|error| format!("cannot listen on {} for the API: {error}", world.admin.listen))?;
        let mut hosts = world.admin.hosts.clone();
        hosts.push(server.node.clone());

        let (changes, queue) = control::queue();
        let (registry, ready): (Arc<Registry>, Arc<AtomicBool>) = Default::default();
        let (reports, reported) = mpsc::channel(REPORTS);
        let descriptors = raise_descriptor_limit();
        warn_of_descriptors(descriptors, &server);
        let probing = probe::Settings { seed: unix_nanoseconds(), ..probe::Settings::within(descriptors) };
        let prober = Prober::start(&world.fleet().targets, &world.checks, probing, reports);
        let probes = prober.totals();
        let published = Arc::new(ArcSwap::from_pointee(world.freeze(world.base().clone(), 0)));
        let mut state = State::new(Arc::clone(&world), Arc::clone(&published), prober, time::now());
        state.keep_overrides(Store::new(&server.state_dir), time::now());
        let keeper = keep_health(&mut state, &server.state_dir);
        let gauge = measure_latency(&mut state, &world, changes.clone());
        keep_cookies(&mut state, &server.state_dir, changes.clone());
        let journal_path = journal::path(&server.state_dir);
        let journal = keep_journal(&mut state, &journal_path);
        let mut settled = state.settled();
        tokio::spawn(control::run(state, queue, reported));

        let notifier = Notifier::start();
        let api = Api {
            changes: changes.clone(),
            registry: Arc::clone(&registry),
            probes,
            resolutions: resolution.totals(),
            notifies: notifier.totals(),
            secondaries: sources.secondaries.board(),
            updates: sources.updates.totals(),
            latency: gauge.as_ref().map(Gauge::totals).unwrap_or_default(),
            certificates: encrypted.as_ref().map(|encrypted| Arc::clone(&encrypted.certificates)),
            ready: Arc::clone(&ready),
            journal: journal_path,
        };
        let certificates = api.certificates.clone();
        serve_api(api, admin, hosts, &server.state_dir);
        tokio::spawn(tell_of_limits(Arc::clone(&published)));
        certificates.iter().for_each(|shown| drop(tokio::spawn(certificates::keep(Arc::clone(shown)))));

        let running = tokio::select! {
            round = settled.wait_for(|&settled| settled) => {
                round.map_err(|_| "the control loop has ended".to_string())?;
                Some(answer(&server, encrypted.as_ref(), &published, &registry, sources.open(&published))?)
            }
            () = ending.signalled() => None,
        };
        ready.store(running.is_some(), Ordering::Relaxed);
        if running.is_some() {
            journal.note(|| started(&server.node));
            notifier.serves(&world);
        }
        let geo = GeoWatch::new(&world);
        let tls = world.tls.clone();
        let reloader = Reloader {
            path: path.to_path_buf(),
            served: world,
            server,
            admin: settings,
            tls,
            certificates,
            changes,
            registry,
            geo,
            resolution,
            sources,
            notifier,
        };
        Ok(Node { reloader, ready, hangup, ending, running, keeper, journal, gauge, lock })
    }

    /// Where changes to what is served go, and questions about it.
    pub(super) fn changes(&self) -> Changes {
        self.reloader.changes.clone()
    }

    /// Reloads on SIGHUP, takes geo files that are replaced, and other addresses of targets, one after the other, until
    /// SIGTERM or SIGINT comes.
    pub(super) async fn until_ended(&mut self) {
        loop {
            let due = tokio::select! {
                () = self.ending.signalled() => return,
                _ = self.hangup.recv() => Due::Reload,
                look = self.reloader.geo.changed() => Due::Geo(look),
                names = self.reloader.resolution.changed() => Due::Found(names),
                names = self.reloader.sources.changed() => Due::Zones(names),
            };
            let work = async {
                match due {
                    Due::Reload => self.reloader.reload().await,
                    Due::Geo(look) => self.reloader.renew(look).await,
                    Due::Found(names) => self.reloader.take_found(names).await,
                    Due::Zones(names) => self.reloader.take_zones(names).await,
                }
            };
            tokio::select! {
                () = self.ending.signalled() => return,
                () = work => {}
            }
        }
    }

    /// Stops reading, answers what was read.
    pub(super) async fn stop(self) {
        self.ready.store(false, Ordering::Relaxed);
        if let Some(running) = self.running {
            // It fails only when the runtime is ending already.
            let _ = tokio::task::spawn_blocking(move || running.stop()).await;
        }
        let reason = self.ending.signal.unwrap_or_default().into();
        let node = format!("node/{}", self.reloader.server.node);
        self.journal.note(|| Record { new: "ended".into(), reason, ..Record::new(Kind::Stop, node) });
        // It fails only when the runtime is ending already.
        let _ = tokio::task::spawn_blocking(move || finish_files(self.keeper, self.gauge, &self.journal)).await;
        let _ = fs::remove_file(admin::control_socket(&self.reloader.server.state_dir));
        drop(self.lock);
    }
}

/// What the configuration is to be compiled for.
enum Due {
    Reload,
    Geo(Look),
    /// Targets that have other addresses.
    Found(Vec<Name>),
    /// Zones of which other data are known.
    Zones(Vec<Name>),
}

/// Finds the addresses of targets, as far as that is possible before the first answer.
async fn resolve_first(configuration: &mut Configuration) -> Resolution {
    let Configuration { server, fleet, .. } = configuration;
    let mut resolution = Resolution::new(server, fleet);
    resolution.first(server.startup_grace.min(RESOLVE_PATIENCE)).await;
    fleet.take_found(&resolution.found());
    resolution.follow(server, fleet);
    resolution
}

/// What a reload needs.
struct Reloader {
    path: PathBuf,
    /// What is served, or about to be.
    served: Arc<World>,
    /// As started: what of it a reload cannot change.
    server: Server,
    admin: Admin,
    tls: Option<Tls>,
    /// What encrypted transports show.
    certificates: Option<Arc<Certificates>>,
    changes: Changes,
    registry: Arc<Registry>,
    geo: GeoWatch,
    resolution: Resolution,
    sources: Sources,
    notifier: Notifier,
}

/// Looks after the geo files of what is served.
struct GeoWatch {
    watch: Watch,
    /// When they are looked at next: whoever gives up waiting, as something else comes first, waits no longer for that.
    next: tokio::time::Instant,
    /// Those whose newest version is not served.
    refused: Vec<GeoRefusal>,
    /// Numbers of those of them with which tests failed.
    failed: Vec<usize>,
}

impl GeoWatch {
    fn new(served: &World) -> GeoWatch {
        let (watch, next) = (Watch::new(&served.geo_files), tokio::time::Instant::now() + POLL);
        GeoWatch { watch, next, refused: Vec::new(), failed: Vec::new() }
    }

    /// Waits until there is something to do. Given up on, it has lost nothing.
    async fn changed(&mut self) -> Look {
        loop {
            tokio::time::sleep_until(self.next).await;
            self.next = tokio::time::Instant::now() + POLL;
            let paths = self.watch.paths();
            // A file system may keep whoever asks waiting.
            let found = tokio::task::spawn_blocking(move || paths.iter().map(|path| Stamp::at(path)).collect()).await;
            let look = found.map(|found| self.watch.look(found)).unwrap_or_default();
            if look != Look::default() {
                return look;
            }
        }
    }

    /// What is to be read: with those that are due those with which tests failed, for they may not with the others.
    fn due(&self, due: Vec<usize>) -> Vec<usize> {
        let again = self.failed.iter().filter(|number| !due.contains(number) && !due.is_empty());
        let mut all: Vec<usize> = again.copied().chain(due.iter().copied()).collect();
        all.sort_unstable();
        all
    }

    /// Forgets what was said of files that were taken or refused again.
    fn note(&mut self, taken: &[String], refused: Vec<GeoRefusal>) {
        self.refused.retain(|old| !taken.contains(&old.file) && refused.iter().all(|new| new.file != old.file));
        self.refused.extend(refused);
    }
}

impl Reloader {
    /// Loads the configuration anew: all of it is served, or nothing of it.
    async fn reload(&mut self) {
        let change = match self.load().await {
            Err(problems) => {
                for problem in &problems {
                    tracing::error!("{}", problem.trim_end());
                }
                tracing::error!("{}: reload refused, the configuration before it is still served", self.path.display());
                let _ = self.changes.send(Change::ReloadFailed(problems)).await;
                return;
            }
            Ok(next) => next,
        };
        self.warn_of_restart(change.world());
        self.served = Arc::clone(change.world());
        self.geo = GeoWatch::new(&self.served);
        if let (Some(certificates), Some(tls)) = (&self.certificates, &self.served.tls) {
            certificates.replace(tls.files.clone(), Arc::clone(&tls.identity));
        }
        self.resolution.follow(&self.served.server, self.served.fleet());
        self.sources.follow(&self.served);
        let (done, accepted) = oneshot::channel();
        let sent = self.changes.send(Change::Reload(Box::new(change), done)).await;
        if sent.is_ok() && accepted.await.is_ok() {
            tracing::info!("{}: reloaded", self.path.display());
            self.notifier.serves(&self.served);
        } else {
            tracing::error!("{}: not reloaded, the control loop has ended", self.path.display());
        }
    }

    /// Takes geo files that were replaced, if they are good: each that is, by itself.
    async fn renew(&mut self, look: Look) {
        for gone in &look.gone {
            tracing::warn!("[geo] {}: {}; what was read before is still served", gone.file, gone.reason);
        }
        self.geo.note(&[], look.gone);
        let (served, registry) = (Arc::clone(&self.served), Arc::clone(&self.registry));
        let due = self.geo.due(look.due);
        let some_due = !due.is_empty();
        let work = move || {
            registry.tallies.retire();
            let mut renewed = renewal::renew(&served, &due);
            let next = renewed.world.take().map(|world| succeed(world, &served, &registry));
            (next, renewed)
        };
        let (next, renewed) = match in_background(work).await {
            Ok(done) => done,
            Err(problem) => {
                self.geo.watch.give_up();
                return tracing::error!("[geo]: {problem}");
            }
        };
        renewed.read.iter().for_each(|&(number, stamp)| self.geo.watch.was_read(number, stamp));
        for GeoRefusal { file, reason } in &renewed.refused {
            tracing::error!("[geo] {file}: not taken, what was read before is still served: {}", reason.trim_end());
        }
        self.geo.note(&renewed.taken, renewed.refused);
        if some_due {
            self.geo.failed = renewed.failed;
        }
        let refused = self.geo.refused.clone();
        let Some(next) = next else {
            let _ = self.changes.send(Change::GeoRefused(refused)).await;
            return;
        };
        self.served = Arc::clone(next.world());
        let files = renewed.taken.join(", ");
        let (done, accepted) = oneshot::channel();
        let news = GeoNews { taken: renewed.taken, refused };
        let sent = self.changes.send(Change::Geo(Box::new(next), news, done)).await;
        if sent.is_ok() && accepted.await.is_ok() {
            tracing::info!("[geo] {files}: replaced, taken");
        } else {
            tracing::error!("[geo] {files}: not taken, the control loop has ended");
        }
    }

    /// Goes by what is known of targets now, of which these have other addresses than before.
    async fn take_found(&mut self, names: Vec<Name>) {
        let (served, registry, found) = (Arc::clone(&self.served), Arc::clone(&self.registry), self.resolution.found());
        let work = move || {
            registry.tallies.retire();
            succeed(served.with_found(&found), &served, &registry)
        };
        let next = match in_background(work).await {
            Ok(next) => next,
            Err(problem) => return tracing::error!("addresses of targets: {problem}"),
        };
        self.served = Arc::clone(next.world());
        self.resolution.follow(&self.served.server, self.served.fleet());
        let (done, accepted) = oneshot::channel();
        if self.changes.send(Change::Found(Box::new(next), names, done)).await.is_ok() {
            // It fails only when the control loop has ended.
            let _ = accepted.await;
        }
    }

    /// Goes by what is known of zones now, of which these have other data than before.
    async fn take_zones(&mut self, names: Vec<Name>) {
        let (served, (given, change)) = (Arc::clone(&self.served), self.sources.take_given());
        let work = move || {
            let mut world = served.with_zones(&given);
            world.remember(&served);
            Succession::new(Arc::new(world), &served)
        };
        let next = match in_background(work).await {
            Ok(next) => next,
            Err(problem) => return tracing::error!("data of zones: {problem}"),
        };
        tell_left_out(&self.served.left_out, &next.world().left_out);
        self.served = Arc::clone(next.world());
        let (done, accepted) = oneshot::channel();
        let sent = self.changes.send(Change::Zones(Box::new(next), names, done)).await;
        if sent.is_ok() && accepted.await.is_ok() {
            self.sources.updates.serves(change);
            self.notifier.serves(&self.served);
        }
    }

    /// Compiles the configuration.
    async fn load(&self) -> Result<Succession, Vec<String>> {
        let (path, served, registry) = (self.path.clone(), Arc::clone(&self.served), Arc::clone(&self.registry));
        let (found, given) = (self.resolution.found(), self.sources.given());
        let work = move || {
            registry.tallies.retire();
            let world = supplied(reloaded(&path, &found)?, &given);
            for doubt in renewal::doubts(&served, &world) {
                tracing::warn!("[geo] {}: taken, as this is a reload: {}", doubt.file, doubt.reason);
            }
            Ok(succeed(world, &served, &registry))
        };
        in_background(work).await.unwrap_or_else(|problem| Err(vec![problem]))
    }

    /// Says which settings a reload cannot change.
    fn warn_of_restart(&self, world: &World) {
        let (before, now) = (&self.server, &world.server);
        let tls = |list: fn(&Tls) -> &[SocketAddr]| {
            let of = |tls: Option<&Tls>| tls.map(|tls| list(tls).to_vec()).unwrap_or_default();
            of(self.tls.as_ref()) != of(world.tls.as_ref())
        };
        let path = |tls: Option<&Tls>| tls.map(|tls| tls.doh_path.clone());
        let kept = [
            ("[server] listen", before.listen != now.listen),
            ("[server] workers", before.workers != now.workers),
            ("[server] pin-workers", before.pin_workers != now.pin_workers),
            ("[server] tcp-…", before.tcp != now.tcp),
            ("[server] proxy-protocol-from", before.proxies != now.proxies),
            ("[server] state-dir", before.state_dir != now.state_dir),
            ("[tls] dot", tls(|tls| &tls.dot)),
            ("[tls] doh", tls(|tls| &tls.doh)),
            ("[tls] doq", tls(|tls| &tls.doq)),
            ("[tls] doh3", tls(|tls| &tls.doh3)),
            ("[tls] doh-path", path(self.tls.as_ref()) != path(world.tls.as_ref())),
            ("[admin] listen", self.admin.listen != world.admin.listen),
            ("[admin] hosts", self.admin.hosts != world.admin.hosts),
        ];
        for (key, _) in kept.iter().filter(|(_, changed)| *changed) {
            tracing::warn!("{key} takes effect at the next start");
        }
    }
}

/// Does work in a thread that yields to those that answer. Where they leave it no time, it is done once more in a thread
/// like theirs: whoever reloads may do so just because they are that busy.
async fn in_background<T: Send + 'static>(work: impl Fn() -> T + Clone + Send + 'static) -> Result<T, String> {
    match tokio::time::timeout(RELOAD_PATIENCE, done_by(idle::spawn, work.clone())).await {
        Ok(outcome) => outcome,
        Err(_) => {
            tracing::warn!("no time to reload in {RELOAD_PATIENCE:?}; loading at the priority of answering");
            done_by(|name, work| std::thread::Builder::new().name(name.into()).spawn(work), work).await
        }
    }
}

/// Does work in the thread that `spawn` makes.
async fn done_by<T: Send + 'static>(
    spawn: impl FnOnce(&str, Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (done, outcome) = oneshot::channel();
    // Whoever waits may be gone: the server ends, or it took too long.
    let work = Box::new(move || drop(done.send(work())));
    spawn("reload", work).map_err(|error| format!("no thread to load the configuration in: {error}"))?;
    outcome.await.map_err(|_| "loading failed inside: its thread panicked".into())
}

/// A world that is to follow the one that is served, with counters for all threads.
fn succeed(mut world: World, served: &World, registry: &Registry) -> Succession {
    world.count_for(registry.threads());
    world.count_as(served);
    world.remember(served);
    world.tallies.iter().for_each(|tally| registry.tallies.add(tally));
    Succession::new(Arc::new(world), served)
}

/// Takes over the health that an earlier process left in `state_dir`, and keeps it there from now on.
fn keep_health(state: &mut State, state_dir: &Path) -> Option<Keeper> {
    let path = last_good::path(state_dir);
    let clock = Clock { now: time::now(), unix_ms: unix_milliseconds() };
    let file = LastGood::read(&path, clock.unix_ms).unwrap_or_else(|why| {
        tracing::warn!("{}: not used: {why}", path.display());
        None
    });
    if let Some(file) = &file {
        let known = state.recall(file, clock);
        let age = Duration::from_millis(clock.unix_ms.saturating_sub(file.written_ms()));
        if known > 0 {
            tracing::info!("{}: health of {}, from {age:?} ago", path.display(), output::count(known, "target"));
        }
    }
    let keeper = Keeper::start(path, file.map(|file| file.written_ms()));
    let keeper = keeper.inspect_err(|error| tracing::error!("no thread to keep health with: {error}")).ok()?;
    state.keep_health(keeper.notes(), clock.now);
    Some(keeper)
}

/// Has what happens written to the journal from now on.
fn keep_journal(state: &mut State, path: &Path) -> Journal {
    let journal = Journal::start(path.to_path_buf()).unwrap_or_else(|error| {
        tracing::error!("no thread to write the journal: {error}");
        Journal::default()
    });
    state.keep_journal(journal.clone());
    journal
}

/// Takes round-trip times in from now on, and goes by those that an earlier process left.
fn measure_latency(state: &mut State, world: &Arc<World>, changes: Changes) -> Option<Gauge> {
    let gauge = Gauge::start(world, &world.server.state_dir, changes);
    let gauge = gauge.inspect_err(|error| tracing::error!("no thread to keep round-trip times: {error}")).ok()?;
    state.measure_latency(gauge.inbox(), gauge.measured());
    Some(gauge)
}

/// Makes DNS cookies with secrets of this node from now on, where no file says them.
fn keep_cookies(state: &mut State, state_dir: &Path, changes: Changes) {
    let jar = Jar::open(state_dir);
    state.bake(jar.secrets());
    tokio::spawn(jar.keep(changes));
}

fn started(node: &str) -> Record {
    let reason = format!("waymark {}, process {}", env!("CARGO_PKG_VERSION"), std::process::id());
    Record { new: "answering".into(), reason, ..Record::new(Kind::Start, format!("node/{node}")) }
}

/// Has everything written that is still to be; waits at most `DISK_PATIENCE` for the disk.
fn finish_files(keeper: Option<Keeper>, gauge: Option<Gauge>, journal: &Journal) {
    let began = std::time::Instant::now();
    // It may have much to write, and begins while the others write.
    gauge.iter().for_each(Gauge::end);
    if let Some(keeper) = keeper {
        keeper.finish(DISK_PATIENCE);
    }
    journal.finish(DISK_PATIENCE.saturating_sub(began.elapsed()));
    if let Some(gauge) = gauge {
        gauge.finish(DISK_PATIENCE.saturating_sub(began.elapsed()));
    }
}

/// Where encrypted transports are served, and what they show.
fn encrypted(tls: &Tls) -> Encrypted {
    let certificates = Certificates::new(tls.files.clone(), Arc::clone(&tls.identity));
    Encrypted {
        certificates,
        dot: tls.dot.clone(),
        doh: tls.doh.clone(),
        doq: tls.doq.clone(),
        doh3: tls.doh3.clone(),
        doh_path: tls.doh_path.clone(),
    }
}

/// Opens the sockets.
fn bind(server: &Server, encrypted: Option<&Encrypted>, workers: usize) -> Result<Listeners, BindError> {
    let bound = Listeners::bind(&server.listen, workers)?.behind(&server.proxies);
    match encrypted {
        Some(encrypted) => bound.encrypted(encrypted),
        None => Ok(bound),
    }
}

/// A configuration with what is known of zones that do not come from a file.
fn supplied(world: World, given: &Given) -> World {
    if world.supplies.is_empty() { world } else { world.with_zones(given) }
}

/// Says what of the data of zones is not served, each once.
fn tell_left_out(before: &[String], now: &[String]) {
    now.iter().filter(|what| !before.contains(what)).for_each(|what| tracing::warn!("{what}"));
}

/// Opens the sockets and answers from what is `published`; what is no query goes to `inbox`.
fn answer(
    server: &Server,
    encrypted: Option<&Encrypted>,
    published: &Published,
    registry: &Arc<Registry>,
    inbox: Inbox,
) -> Result<Running, String> {
    let bound = bind(server, encrypted, server.workers).map_err(|problem| problem.to_string())?;
    let bound = bound.handing_to(inbox);
    let listeners = if server.pin_workers { bound.pinned() } else { bound };
    let shown = |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let addresses = shown(listeners.local_addresses());
    let encrypted = listeners.encrypted_addresses().to_vec();
    let running = listeners.serve(published, registry, unix_nanoseconds(), limits(server));
    let running = running.map_err(|error| format!("cannot start threads: {error}"))?;
    tracing::info!("{} answers on {addresses} (UDP and TCP)", server.node);
    for (transport, address) in encrypted {
        tracing::info!("{} answers on {address} ({transport})", server.node);
    }
    Ok(running)
}

/// Says so when there are fewer descriptors than connections allowed. They are then closed for newcomers earlier.
fn warn_of_descriptors(descriptors: usize, server: &Server) {
    if descriptors < server.tcp.connections {
        let connections = server.tcp.connections;
        tracing::warn!("{descriptors} descriptors at most (ulimit -n), and `tcp-connections` = {connections}");
    }
}

fn limits(server: &Server) -> Limits {
    let Tcp { connections, connections_per_prefix, idle, idle_when_pressed, message, write, burst } = server.tcp;
    let transfers = TRANSFERS;
    Limits { connections, connections_per_prefix, idle, idle_when_pressed, message, write, transfers, burst }
}

/// How often is looked whose answers began to be limited.
const LIMITS_LOOK: Duration = Duration::from_secs(1);

/// A line for one network of each kind of answers that began to be limited, once a second at most.
async fn tell_of_limits(published: Published) {
    loop {
        tokio::time::sleep(LIMITS_LOOK).await;
        let Some(limiter) = published.load().limiter.clone() else { continue };
        let policy = limiter.policy();
        for (kind, prefix) in limiter.news() {
            let rate = if kind == "total" { policy.total } else { policy.rate };
            let does = if policy.dry_run { "would be limited (dry-run)" } else { "is limited" };
            tracing::warn!("rate limit: {prefix} asks for more than {rate} answers a second ({kind}), and {does}");
        }
    }
}

/// The signals that end a server.
struct Ending {
    terminate: Signal,
    interrupt: Signal,
    /// There was this one.
    signal: Option<&'static str>,
}

impl Ending {
    fn new() -> io::Result<Ending> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Ending { terminate, interrupt, signal: None })
    }

    /// Waits for one of them; once there was one, not again.
    async fn signalled(&mut self) {
        if self.signal.is_some() {
            return;
        }
        let which = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        self.signal = Some(which);
        tracing::info!("ending: {which}");
    }
}

/// A world that may be served, or why not.
fn reloaded(path: &Path, found: &Found) -> Result<World, Vec<String>> {
    let config::Loaded { configuration, problems, sources } = config::load_to_serve(path);
    let rendered = || problems.iter().map(|problem| render(std::slice::from_ref(problem), &sources, false)).collect();
    let Some(mut configuration) = configuration else { return Err(rendered()) };
    configuration.fleet.take_found(found);
    // The texts of all files may be a lot, and compiling takes memory too.
    drop(sources);
    let world = World::compile(configuration);
    let failed = explain::failed_tests(&world);
    if failed.is_empty() { Ok(world) } else { Err(failed) }
}

/// Serves the API over TCP and the control socket in the background.
fn serve_api(api: Api, listener: TcpListener, hosts: Vec<String>, state_dir: &Path) {
    let socket = admin::control_socket(state_dir);
    let control = api.clone();
    tokio::spawn(async move {
        if let Err(error) = admin::serve_control(control, &socket).await {
            tracing::error!("{}: no control socket: {error}", socket.display());
        }
    });
    tokio::spawn(async move {
        if let Err(error) = admin::serve_tcp(api, listener, hosts).await {
            tracing::error!("the API ended: {error}");
        }
    });
}

/// Takes `state-dir/lock`, so that no second server writes there. A folder that cannot be written costs the control
/// socket, not the service.
fn lock(state_dir: &Path) -> Result<Option<File>, String> {
    let path = state_dir.join("lock");
    let opened = fs::create_dir_all(state_dir)
        .and_then(|()| File::options().read(true).write(true).create(true).truncate(false).open(&path));
    let mut file = match opened {
        Ok(file) => file,
        Err(error) => {
            tracing::error!("{}: {error}; serving without a control socket", path.display());
            return Ok(None);
        }
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            return Err(format!(
                "{}: another server (process {}) runs with this state-dir",
                path.display(),
                pid.trim()
            ));
        }
        Err(fs::TryLockError::Error(error)) => {
            tracing::error!("{}: cannot be locked: {error}", path.display());
            return Ok(None);
        }
    }
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = written {
        tracing::error!("{}: {error}", path.display());
    }
    Ok(Some(file))
}
