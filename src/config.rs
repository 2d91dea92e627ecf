//! The only reader of files, environment and flags: later over earlier, into validated settings.
//!
//! Order: defaults, the TOML file of `--config`, the environment (`CLIQUE_…`), flags.

mod args;
mod bench;
mod client;
mod storage;
mod suite;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    env, fs,
    io::{self, BufRead, IsTerminal as _},
    net::IpAddr,
    num::NonZero,
    path::PathBuf,
    thread,
};

use config::{Config, Environment, File, FileFormat};
use serde::Deserialize;

use self::storage::{Place, Storage, storage};
pub use self::{
    args::{CommonArgs, NodeArgs, StatusArgs},
    bench::{BenchArgs, BenchCommand, BenchTask, BenchWorkload, bench},
    client::{ClientArgs, client},
    suite::{FailoverArgs, GrowthArgs, SuiteArgs},
};
use crate::{
    chat::command::HISTORY_MAX,
    clique::Secret,
    node::{Limits, NodeSettings, hub::Timing},
    telemetry::{LogFormat, TelemetryError, TraceSettings},
};

/// Distance from a node's chat port to its gRPC port and to its HTTP port.
const GRPC_PORT_OFFSET: u16 = 1;
const HTTP_PORT_OFFSET: u16 = 2;
/// Distance between the chat ports of nodes that are not in the list.
const PORT_STEP: u16 = 10;
/// Most threads of a node.
const MAX_THREADS: u64 = 1_024;
const PREFIX: &str = "CLIQUE";

/// Settings that make no sense, each with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the settings cannot be read: {0}")]
    Read(config::ConfigError),
    #[error("the file {path} cannot be read: {error}")]
    File { path: PathBuf, error: io::Error },
    #[error("the file {path} has a setting that cannot be used: {error}")]
    InFile { path: PathBuf, error: config::ConfigError },
    #[error("no index is given; set CLIQUE_INDEX or --index to a number from 0 to {last}")]
    NoIndex { last: usize },
    #[error("index {index} is out of range; CLIQUE_PORTS has {count} ports, so it goes from 0 to {last}", last = count - 1)]
    Index { index: usize, count: usize },
    #[error("{index} is no index; CLIQUE_INDEX or --index is a number from 0 to {last}")]
    NotAnIndex { index: String, last: usize },
    #[error("{0} is not a port; CLIQUE_PORTS is a list of numbers from 1 to 65533, such as 4000,4010,4020")]
    Port(String),
    #[error("port {0} is used twice; a node takes three ports in a row (chat, gRPC, HTTP), so leave room between them")]
    PortTwice(u16),
    #[error("{0} is not an address to listen on; use an IP address, such as 127.0.0.1 or 0.0.0.0")]
    Listen(String),
    #[error("CLIQUE_SECRET and CLIQUE_SECRET_FILE are both set; set one of them")]
    TwoSecrets,
    #[error("the secret in {0} is empty; put a long random text there")]
    EmptySecret(PathBuf),
    #[error("{name} is {value}, but goes from {min} to {max}")]
    Range { name: &'static str, value: u64, min: u64, max: u64 },
    #[error("CLIQUE_SYNC is {0}, and is one of always, interval:MS (such as interval:50) and never")]
    Sync(String),
    #[error("{0} is not a log format; there are text and json")]
    LogFormat(String),
    #[error("a clique in one process has 1 to 32 nodes, not {0}")]
    Nodes(u16),
    #[error("{0}")]
    Telemetry(#[from] TelemetryError),
    #[error("{0} is not host:port; --nodes is a list such as 127.0.0.1:4000,127.0.0.1:4010")]
    BenchNode(String),
    #[error("the core of NATS acknowledges nothing; compare with its streams: clique bench durable --target nats")]
    NothingAcknowledged,
    #[error("--duration-s is {0}, but goes up to 3600 and is more than 0")]
    Duration(f64),
    #[error("this program does not know where it lies, and so cannot start nodes: {0}")]
    Program(io::Error),
    #[error("the terminal cannot be read: {0}")]
    Terminal(io::Error),
    #[error(transparent)]
    Client(#[from] crate::client::SettingsError),
}

// Not a source: the sentence has the reason in it, and whoever prints the causes too would say it twice.
impl From<config::ConfigError> for ConfigError {
    fn from(error: config::ConfigError) -> Self {
        Self::Read(error)
    }
}

/// A list as people write it: `4000,4010` in the environment, `[4000, 4010]` in a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum List {
    Numbers(Vec<u16>),
    Items(Vec<String>),
    Text(String),
}

impl List {
    fn items(&self) -> Vec<String> {
        match self {
            Self::Numbers(numbers) => numbers.iter().map(ToString::to_string).collect(),
            Self::Items(items) => items.clone(),
            Self::Text(text) => {
                text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
            }
        }
    }
}

/// Everything that can be set for a node, as read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    index: Option<String>,
    ports: List,
    listen: String,
    grpc_port: Option<u16>,
    http_port: Option<u16>,
    peers: Option<List>,
    advertise: Option<String>,
    secret: Option<String>,
    secret_file: Option<PathBuf>,
    data: Option<String>,
    sync: String,
    keep_days: u64,
    keep_mib: u64,
    log_mib: Option<u64>,
    history_shown: usize,
    threads: Option<u64>,
    drain_ms: u64,
    max_connections: usize,
    max_connections_per_address: usize,
    handshake_ms: u64,
    idle_s: u64,
    client_output_kib: u64,
    peer_output_kib: u64,
    log: Option<String>,
    log_format: Option<String>,
}

/// What is logged, and how.
#[derive(Debug, Clone)]
pub struct LogSettings {
    pub filter: String,
    pub format: LogFormat,
}

/// Everything a node's process is told.
#[derive(Debug)]
pub struct NodeConfig {
    pub node: NodeSettings,
    pub log: LogSettings,
    pub trace: TraceSettings,
}

/// Everything the process of a whole clique is told.
#[derive(Debug)]
pub struct UpConfig {
    pub nodes: Vec<NodeSettings>,
    pub log: LogSettings,
    pub trace: TraceSettings,
}

/// The environment as it is now.
#[must_use]
pub fn environment() -> HashMap<String, String> {
    env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// The settings of one node.
///
/// # Errors
/// The first thing that cannot be used, in a sentence.
pub fn node(args: &NodeArgs, environment: &HashMap<String, String>) -> Result<NodeConfig, ConfigError> {
    let raw = read(args, environment)?;
    let ports = ports(&raw.ports)?;
    let index = match given_index(&raw, &ports)? {
        Some(index) => index,
        None if io::stdin().is_terminal() => {
            ask_index(ports.len(), &mut io::stdin().lock(), &mut io::stdout()).map_err(ConfigError::Terminal)?
        }
        None => return Err(ConfigError::NoIndex { last: ports.len() - 1 }),
    };
    let node = node_settings(&raw, &ports, index, Place::OneNode)?;
    Ok(NodeConfig { node, log: log(&raw, "info")?, trace: trace(environment)? })
}

/// How many threads serve a node. Where there is no processor to spare, handing messages from one to the next costs more
/// than it gains.
///
/// # Errors
/// The first thing that cannot be used, in a sentence.
pub fn threads(args: &NodeArgs, environment: &HashMap<String, String>) -> Result<usize, ConfigError> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let given = read(args, environment)?.threads.map(|threads| range("CLIQUE_THREADS", threads, 1, MAX_THREADS));
    let given = given.transpose()?.and_then(|threads| usize::try_from(threads).ok());
    Ok(given.unwrap_or((processors / 2).max(1)))
}

/// The settings of `count` nodes in one process, on loopback.
///
/// # Errors
/// The first thing that cannot be used, in a sentence.
pub fn up(args: &NodeArgs, count: u16, environment: &HashMap<String, String>) -> Result<UpConfig, ConfigError> {
    let mut raw = read(args, environment)?;
    if !(1..=32).contains(&count) {
        return Err(ConfigError::Nodes(count));
    }
    let mut ports = ports(&raw.ports)?;
    ports.truncate(count.into());
    while ports.len() < usize::from(count) {
        let next = u32::from(ports[ports.len() - 1]) + u32::from(PORT_STEP);
        ports.push(port(&next.to_string())?);
    }
    if raw.secret.is_none() && raw.secret_file.is_none() {
        // They only ever talk to each other.
        raw.secret = Some(format!("{:032x}", rand::random::<u128>()));
    }
    (raw.peers, raw.grpc_port, raw.http_port, raw.advertise) = (None, None, None, None);
    let settings = |index| node_settings(&raw, &ports, index, Place::ManyNodes);
    let nodes = (0..ports.len()).map(settings).collect::<Result<_, _>>()?;
    Ok(UpConfig { nodes, log: log(&raw, "warn")?, trace: trace(environment)? })
}

/// Where the node that these settings describe answers HTTP on this machine, "host:port".
///
/// # Errors
/// As for the node itself.
pub fn health_target(args: &NodeArgs, environment: &HashMap<String, String>) -> Result<String, ConfigError> {
    http_target(args, environment, None)
}

/// Which node `clique status` asks: the one given, that of the settings, or the first of the ports.
///
/// # Errors
/// As for the node itself.
pub fn status_target(args: &StatusArgs, environment: &HashMap<String, String>) -> Result<String, ConfigError> {
    match &args.node {
        Some(node) => Ok(node.clone()),
        None => http_target(&args.settings, environment, Some(0)),
    }
}

fn http_target(
    args: &NodeArgs,
    environment: &HashMap<String, String>,
    default_index: Option<usize>,
) -> Result<String, ConfigError> {
    let raw = read(args, environment)?;
    let ports = ports(&raw.ports)?;
    let index = given_index(&raw, &ports)?.or(default_index).ok_or(ConfigError::NoIndex { last: ports.len() - 1 })?;
    let settings = node_settings(&raw, &ports, index, Place::OneNode)?;
    let host = if settings.listen.is_unspecified() { loopback_like(settings.listen) } else { settings.listen };
    Ok(socket(host, settings.http_port))
}

fn read(args: &NodeArgs, environment: &HashMap<String, String>) -> Result<Raw, ConfigError> {
    let limits = Limits::default();
    let kib = |bytes: usize| i64::try_from(bytes / 1024).unwrap_or(i64::MAX);
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut builder = Config::builder()
        .set_default("ports", "4000,4010,4020,4030,4040")?
        .set_default("listen", "127.0.0.1")?
        .set_default("sync", "always")?
        .set_default("keep_days", 30)?
        .set_default("keep_mib", 1_024)?
        .set_default("history_shown", 20)?
        .set_default("drain_ms", 5_000)?
        .set_default("max_connections", number(limits.max_connections as u64))?
        .set_default("max_connections_per_address", number(limits.max_connections_per_address as u64))?
        .set_default("handshake_ms", number(limits.handshake_ms))?
        .set_default("idle_s", number(limits.idle_ms / 1_000))?
        .set_default("client_output_kib", kib(limits.max_client_output_bytes))?
        .set_default("peer_output_kib", kib(limits.max_peer_output_bytes))?;
    let mut known = BTreeMap::new();
    if let Some(path) = &args.common.config {
        let text = fs::read_to_string(path).map_err(|error| ConfigError::File { path: path.clone(), error })?;
        let file = File::from_str(&text, FileFormat::Toml);
        builder = builder.add_source(file);
    }
    for (key, _) in args.overrides() {
        known.insert(format!("{PREFIX}_{}", key.to_uppercase()), key);
    }
    known.insert(format!("{PREFIX}_SECRET"), "secret");
    // Variables of other commands share the prefix; an empty one counts as not set.
    let ours: HashMap<String, String> = environment
        .iter()
        .filter(|(name, value)| known.contains_key(*name) && !value.is_empty())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    builder = builder.add_source(Environment::with_prefix(PREFIX).source(Some(ours)));
    for (key, value) in args.overrides() {
        builder = builder.set_override_option(key, value.clone())?;
    }
    let raw = builder.build()?.try_deserialize();
    raw.map_err(|error| match &args.common.config {
        Some(path) if error.to_string().contains("unknown field") => ConfigError::InFile { path: path.clone(), error },
        _ => error.into(),
    })
}

fn ports(list: &List) -> Result<Vec<u16>, ConfigError> {
    let items = list.items();
    if items.is_empty() {
        return Err(ConfigError::Port("nothing".to_owned()));
    }
    items.iter().map(|item| port(item)).collect()
}

/// A chat port that leaves room for the two after it.
fn port(written: &str) -> Result<u16, ConfigError> {
    match written.parse() {
        Ok(port) if (1..=u16::MAX - HTTP_PORT_OFFSET).contains(&port) => Ok(port),
        _ => Err(ConfigError::Port(written.to_owned())),
    }
}

/// Asks a person, as the original did, until the answer is an index.
fn ask_index(count: usize, input: &mut impl BufRead, output: &mut impl io::Write) -> io::Result<usize> {
    loop {
        write!(output, "Choose an index [0-{}] :", count - 1)?;
        output.flush()?;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim().parse() {
            Ok(index) if index < count => return Ok(index),
            _ => writeln!(output, "{} is no index; it goes from 0 to {}", line.trim(), count - 1)?,
        }
    }
}

fn given_index(raw: &Raw, ports: &[u16]) -> Result<Option<usize>, ConfigError> {
    let not_an_index = |index: &String| ConfigError::NotAnIndex { index: index.clone(), last: ports.len() - 1 };
    raw.index.as_ref().map(|index| index.trim().parse().map_err(|_| not_an_index(index))).transpose()
}

fn node_settings(raw: &Raw, ports: &[u16], index: usize, place: Place) -> Result<NodeSettings, ConfigError> {
    let out_of_range = || ConfigError::Index { index, count: ports.len() };
    let chat_port = *ports.get(index).ok_or_else(out_of_range)?;
    let listen: IpAddr = raw.listen.parse().map_err(|_| ConfigError::Listen(raw.listen.clone()))?;
    let peer_port = raw.grpc_port.unwrap_or(chat_port + GRPC_PORT_OFFSET);
    let http_port = raw.http_port.unwrap_or(chat_port + HTTP_PORT_OFFSET);
    let host = if listen.is_unspecified() { loopback_like(listen) } else { listen };
    let mut taken = BTreeSet::new();
    let own = [chat_port, peer_port, http_port];
    // Where ports are set one by one, the others' are not known here.
    let follows_list = raw.peers.is_none() && raw.grpc_port.is_none() && raw.http_port.is_none();
    let others = ports.iter().enumerate().filter(|(other, _)| *other != index && follows_list);
    for port in own.into_iter().chain(others.flat_map(|(_, port)| [*port, port + 1, port + 2])) {
        if !taken.insert(port) {
            return Err(ConfigError::PortTwice(port));
        }
    }
    let advertise = raw.advertise.clone().unwrap_or_else(|| socket(host, peer_port));
    let (peers, expected_nodes) = match &raw.peers {
        Some(list) => listed_peers(&list.items(), &advertise, peer_port),
        None => {
            let others = ports.iter().enumerate().filter(|(other, _)| *other != index);
            (others.map(|(_, port)| socket(host, port + GRPC_PORT_OFFSET)).collect(), ports.len())
        }
    };
    let index = u16::try_from(index).map_err(|_| out_of_range())?;
    let Storage { store, max_log_bytes, keep } = storage(raw, place, index)?;
    Ok(NodeSettings {
        index,
        listen,
        chat_port,
        peer_port,
        http_port,
        peers,
        expected_nodes,
        advertise,
        secret: Secret::new(secret(raw)?),
        store,
        keep,
        max_log_bytes,
        history_shown: raw.history_shown.min(HISTORY_MAX),
        drain_ms: range("CLIQUE_DRAIN_MS", raw.drain_ms, 0, 3_600_000)?,
        limits: Limits {
            max_connections: raw.max_connections,
            max_connections_per_address: raw.max_connections_per_address,
            handshake_ms: range("CLIQUE_HANDSHAKE_MS", raw.handshake_ms, 100, 3_600_000)?,
            idle_ms: range("CLIQUE_IDLE_S", raw.idle_s, 1, 31_536_000)? * 1_000,
            max_client_output_bytes: kib("CLIQUE_CLIENT_OUTPUT_KIB", raw.client_output_kib, 16)?,
            max_peer_output_bytes: kib("CLIQUE_PEER_OUTPUT_KIB", raw.peer_output_kib, 64)?,
        },
        timing: Timing::default(),
    })
}

/// Peers as listed, and how many nodes that makes. One name may stand for any number; those are learned.
fn listed_peers(items: &[String], advertise: &str, peer_port: u16) -> (Vec<String>, usize) {
    let with_port = |item: &String| if item.contains(':') { item.clone() } else { format!("{item}:{peer_port}") };
    let peers: Vec<String> = items.iter().map(with_port).collect();
    let expected = match peers.len() {
        0 | 1 => 1,
        count => count + usize::from(!peers.iter().any(|peer| peer == advertise)),
    };
    (peers.into_iter().filter(|peer| peer != advertise).collect(), expected)
}

fn secret(raw: &Raw) -> Result<Option<String>, ConfigError> {
    match (&raw.secret, &raw.secret_file) {
        (Some(_), Some(_)) => Err(ConfigError::TwoSecrets),
        (secret, None) => Ok(secret.clone()),
        (None, Some(path)) => {
            let text = fs::read_to_string(path).map_err(|error| ConfigError::File { path: path.clone(), error })?;
            match text.trim() {
                "" => Err(ConfigError::EmptySecret(path.clone())),
                secret => Ok(Some(secret.to_owned())),
            }
        }
    }
}

fn log(raw: &Raw, default_filter: &str) -> Result<LogSettings, ConfigError> {
    let format = match raw.log_format.as_deref() {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => return Err(ConfigError::LogFormat(other.to_owned())),
    };
    Ok(LogSettings { filter: raw.log.clone().unwrap_or_else(|| default_filter.to_owned()), format })
}

/// How messages are traced, by nodes and clients alike.
///
/// # Errors
/// The first variable that cannot be used, in a sentence.
pub fn trace(environment: &HashMap<String, String>) -> Result<TraceSettings, ConfigError> {
    Ok(TraceSettings::from_lookup(|name| environment.get(name).cloned())?)
}

fn range(name: &'static str, value: u64, min: u64, max: u64) -> Result<u64, ConfigError> {
    if (min..=max).contains(&value) { Ok(value) } else { Err(ConfigError::Range { name, value, min, max }) }
}

/// A size in KiB as bytes, up to 1 GiB.
fn kib(name: &'static str, value: u64, min: u64) -> Result<usize, ConfigError> {
    Ok(usize::try_from(range(name, value, min, 1 << 20)?).unwrap_or(usize::MAX >> 10) << 10)
}

fn socket(host: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(host, port).to_string()
}

fn loopback_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    }
}

#[cfg(test)]
mod tests;
