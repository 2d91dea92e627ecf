//! Nodes of a clique, or servers of NATS, as processes joined in a full mesh on loopback.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use super::{Plan, SuiteError, folder::Folder, ports::free_blocks, proxy::Proxy};
use crate::health;

/// How long processes may take to start and to find each other.
const UP_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// A port on which nobody listens: what peers tell each other of each other leads nowhere, and only proxies do.
const NOWHERE: &str = "127.0.0.1:1";
/// Where programs are found by children, which get nothing else of this process's environment.
const PROGRAMS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// Our nodes, with the log in memory only.
    Clique,
    /// Our nodes with the log on disk, synced before anything is acknowledged.
    CliqueKept,
    /// Servers that keep nothing.
    Nats,
    /// Servers with JetStream, which syncs every two minutes.
    JetStream,
    /// The same, synced before anything is acknowledged.
    JetStreamAlways,
}

impl System {
    #[must_use]
    pub fn is_clique(self) -> bool {
        matches!(self, Self::Clique | Self::CliqueKept)
    }

    /// As it is called in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clique => "Clique",
            Self::CliqueKept => "Clique, kept on disk",
            Self::Nats => "NATS",
            Self::JetStream => "JetStream R3, default",
            Self::JetStreamAlways => "JetStream R3, sync always",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Clique => "clique",
            Self::CliqueKept => "clique-kept",
            Self::Nats => "nats",
            Self::JetStream => "jetstream",
            Self::JetStreamAlways => "jetstream-always",
        }
    }
}

/// Processes that end with this.
#[derive(Debug)]
pub struct Cluster {
    pub system: System,
    program: PathBuf,
    /// The first port of each: chat and client connections go there.
    ports: Vec<u16>,
    folder: PathBuf,
    processes: Vec<Option<Child>>,
    /// What all peers reach each other through; empty where they do directly.
    proxies: Vec<Route>,
    /// Settings of the clique's nodes that differ from what is usual.
    settings: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Route {
    from: usize,
    to: usize,
    proxy: Proxy,
}

impl Cluster {
    /// Starts so many and waits until they are joined.
    ///
    /// # Errors
    /// If they cannot be started, or do not find each other in time.
    pub async fn start(system: System, count: usize, plan: &Plan, folder: &Folder) -> Result<Self, SuiteError> {
        let mut cluster = Self::new(system, count, plan, folder)?;
        cluster.start_all().await?;
        Ok(cluster)
    }

    /// The same, with a proxy in every connection between two of them.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_with_proxies(
        system: System,
        count: usize,
        plan: &Plan,
        folder: &Folder,
    ) -> Result<Self, SuiteError> {
        let mut cluster = Self::new(system, count, plan, folder)?;
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                let target = SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.peer_port(to)));
                let proxy = Proxy::open(target).await.map_err(SuiteError::Proxy)?;
                cluster.proxies.push(Route { from, to, proxy });
            }
        }
        cluster.start_all().await?;
        Ok(cluster)
    }

    /// None is started yet.
    ///
    /// # Errors
    /// If there are no ports, or no program.
    pub fn new(system: System, count: usize, plan: &Plan, folder: &Folder) -> Result<Self, SuiteError> {
        let program = if system.is_clique() { Some(&plan.program) } else { plan.nats_server.as_ref() };
        let folder = folder.path().join(format!("{}-{:04x}", system.folder(), rand::random::<u16>()));
        fs::create_dir_all(&folder).map_err(SuiteError::Folder)?;
        Ok(Self {
            system,
            program: program.cloned().unwrap_or_else(|| PathBuf::from("nats-server")),
            ports: free_blocks(count)?,
            folder,
            processes: (0..count).map(|_| None).collect(),
            proxies: Vec::new(),
            settings: Vec::new(),
        })
    }

    /// A setting for all nodes of a clique that are started from now on.
    pub fn set(&mut self, name: &'static str, value: impl ToString) {
        self.settings.push((name, value.to_string()));
    }

    /// Starts all and waits until they are joined.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_all(&mut self) -> Result<(), SuiteError> {
        for index in 0..self.ports.len() {
            self.start_one(index)?;
        }
        self.wait_until_joined().await
    }

    /// "host:port" for clients.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().flatten().map(Child::id).collect()
    }

    /// Ends one with nothing flushed and nobody told.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut process) = self.processes.get_mut(index).and_then(Option::take) {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Resets what is under way between two of them, and lets nothing new through until `heal`.
    pub fn cut(&self, one: usize, other: usize) {
        self.between(one, other).for_each(Proxy::cut);
    }

    pub fn heal(&self, one: usize, other: usize) {
        self.between(one, other).for_each(Proxy::heal);
    }

    fn between(&self, one: usize, other: usize) -> impl Iterator<Item = &Proxy> {
        let crosses = move |route: &&Route| [(one, other), (other, one)].contains(&(route.from, route.to));
        self.proxies.iter().filter(crosses).map(|route| &route.proxy)
    }

    /// Starts one, or starts it again on what it has kept.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_one(&mut self, index: usize) -> Result<(), SuiteError> {
        let folder = self.folder.join(index.to_string());
        fs::create_dir_all(&folder).map_err(SuiteError::Folder)?;
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", PROGRAMS).stdin(Stdio::null());
        if self.system.is_clique() {
            self.set_up_node(&mut command, index, &folder);
        } else {
            let settings = folder.join("settings");
            fs::write(&settings, self.nats_settings(index, &folder)).map_err(SuiteError::Folder)?;
            command.arg("-c").arg(&settings);
        }
        let output = File::create(folder.join("output")).map_err(SuiteError::Folder)?;
        command.stdout(output.try_clone().map_err(SuiteError::Folder)?).stderr(output);
        let start = |error| SuiteError::Start { program: self.program.clone(), error };
        let process = command.spawn().map_err(start)?;
        if let Some(place) = self.processes.get_mut(index) {
            *place = Some(process);
        }
        Ok(())
    }

    fn peer_port(&self, index: usize) -> u16 {
        self.ports.get(index).map_or(0, |port| port + 1)
    }

    /// Where one reaches the others.
    fn peers(&self, index: usize) -> Vec<String> {
        if self.proxies.is_empty() {
            let others = (0..self.ports.len()).filter(|other| *other != index);
            return others.map(|other| format!("127.0.0.1:{}", self.peer_port(other))).collect();
        }
        let mine = self.proxies.iter().filter(|route| route.from == index);
        mine.map(|route| route.proxy.address.to_string()).collect()
    }

    fn set_up_node(&self, command: &mut Command, index: usize, folder: &Path) {
        let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
        let data = if self.system == System::CliqueKept { folder.join("data") } else { PathBuf::from(":memory:") };
        command.arg("node").env("CLIQUE_DATA", data).env("CLIQUE_SYNC", "always").env("CLIQUE_LOG", "warn");
        command.env("CLIQUE_PORTS", ports.join(",")).env("CLIQUE_INDEX", index.to_string());
        if !self.proxies.is_empty() {
            // With a comma, for a single peer counts as a name that stands for any number of nodes.
            command.env("CLIQUE_PEERS", format!("{},{NOWHERE}", self.peers(index).join(",")));
            command.env("CLIQUE_ADVERTISE", NOWHERE);
        }
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
    }

    fn nats_settings(&self, index: usize, folder: &Path) -> String {
        let (port, peer_port) = (self.peer_port(index) - 1, self.peer_port(index));
        let routes: Vec<String> = self.peers(index).iter().map(|peer| format!("\"nats://{peer}\"")).collect();
        let advertise = if self.proxies.is_empty() { String::new() } else { format!(", advertise: \"{NOWHERE}\"") };
        let sync = if self.system == System::JetStreamAlways { ", sync_interval: always" } else { "" };
        let jetstream = match self.system {
            System::JetStream | System::JetStreamAlways => {
                format!("jetstream {{ store_dir: \"{}\"{sync} }}\n", folder.display())
            }
            _ => String::new(),
        };
        format!(
            "server_name: n{index}\nlisten: \"127.0.0.1:{port}\"\n{jetstream}cluster {{ name: bench, listen: \
             \"127.0.0.1:{peer_port}\", routes: [{}]{advertise} }}\n",
            routes.join(", ")
        )
    }

    /// Waits until every node says that it sees all; servers say only that they listen, and are proven to be joined by
    /// the first work they get.
    ///
    /// # Errors
    /// If they do not in time, with the end of what they say.
    pub async fn wait_until_joined(&self) -> Result<(), SuiteError> {
        let deadline = Instant::now() + UP_TIMEOUT;
        let whole = format!("ready: {0} of {0} nodes", self.ports.len());
        for (index, port) in self.ports.iter().enumerate() {
            loop {
                let state = if self.system.is_clique() {
                    health::check(&format!("127.0.0.1:{}", port + 2)).await.map_err(|error| error.to_string())
                } else {
                    let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await;
                    connected.map(|_| whole.clone()).map_err(|error| error.to_string())
                };
                match state {
                    Ok(said) if said == whole => break,
                    Ok(last) | Err(last) if Instant::now() > deadline => {
                        let last = format!("{last}; {}", self.last_words(index));
                        let what = format!("node {index} of {}", self.system.name());
                        return Err(SuiteError::NotReady { what, seconds: UP_TIMEOUT.as_secs(), last });
                    }
                    _ => sleep(LOOK_PAUSE).await,
                }
            }
        }
        Ok(())
    }

    fn last_words(&self, index: usize) -> String {
        let output = fs::read_to_string(self.folder.join(index.to_string()).join("output")).unwrap_or_default();
        output.lines().next_back().unwrap_or("it says nothing").to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.processes.len() {
            self.kill(index);
        }
        // It may be large, and others follow.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
