//! A person at a terminal.

use std::time::{Duration, Instant};

use jiff::{Timestamp, tz::TimeZone};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
    time::{sleep_until, timeout},
};

use super::{
    Exit, NO_NODE, Settings, complain,
    events::Event,
    input::{Input, help},
    made_up_name,
    nodes::{Nodes, nearest},
    prompt::{Prompter, Screen, TerminalGuard, Typed, start},
    render::View,
    session::{End, Handle, OnRefusal, Order, Session},
    spans::Traced,
};
use crate::{chat::Name, wire::lines::printable};

/// Longest time from leaving to the end of the process.
const LEAVING_MS: u64 = 3_000;

/// Asks what is missing, then holds the conversation.
pub async fn run(settings: Settings, traced: Traced) -> Exit {
    let guard = TerminalGuard::new();
    let exit = match start(settings.color) {
        Ok((prompter, screen)) => {
            let interrupts = Interrupts::new();
            Conversation { settings, prompter, screen, interrupts }.hold(traced).await
        }
        Err(error) => {
            complain(&error.to_string());
            Exit::Settings
        }
    };
    drop(guard);
    exit
}

struct Conversation {
    settings: Settings,
    prompter: Prompter,
    screen: Screen,
    interrupts: Interrupts,
}

/// The session's task, and how to speak with it.
struct Running {
    handle: Handle,
    session: JoinHandle<End>,
}

/// What ends the conversation from outside.
struct Interrupts([Option<Signal>; 3]);

impl Interrupts {
    fn new() -> Self {
        let kinds = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()];
        // Without a handler the signal ends the process at once, which is what it is for.
        Self(kinds.map(|kind| signal(kind).ok()))
    }

    /// Comes when somebody outside wants this process to end.
    async fn come(&mut self) {
        async fn come(signal: &mut Option<Signal>) {
            match signal {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        }
        let [terminate, hang_up, interrupt] = &mut self.0;
        tokio::select! {
            () = come(terminate) => {}
            () = come(hang_up) => {}
            () = come(interrupt) => {}
        }
    }
}

impl Conversation {
    async fn hold(mut self, traced: Traced) -> Exit {
        let Some(address) = self.choose_node().await else { return Exit::Fine };
        let Some(name) = self.choose_name().await else { return Exit::Fine };
        let nodes = Nodes::new(self.settings.nodes.clone(), address);
        let (session, handle) = Session::new(nodes, name.clone(), OnRefusal::Ask, traced);
        let mut running = Running { handle, session: tokio::spawn(session.run()) };
        let trace_url = self.settings.trace_url.clone();
        let mut view = View::new(self.settings.color, TimeZone::system(), trace_url, name);
        if self.enter(&mut view, &mut running).await {
            self.chat(&mut view, &mut running).await;
        }
        running.handle.leave.cancel();
        self.leave(&mut view, running).await
    }

    /// The node's address; `None` if the person leaves.
    async fn choose_node(&mut self) -> Option<String> {
        let nodes = self.settings.nodes.clone();
        if let Some(choice) = &self.settings.node {
            // The settings have been checked, so there is one.
            return choice.address(&nodes).ok();
        }
        let last = nodes.len().saturating_sub(1);
        loop {
            let line = self.ask(&format!("Enter index port to connect to [0-{last}]: ")).await?;
            let line = line.trim();
            if line.is_empty() {
                let found = nearest(&nodes).await;
                let (index, what) =
                    found.map_or((0, "no node has answered yet; trying them all".to_owned()), |found| {
                        (found.0, format!("the nearest is node {} ({:.1} ms)", found.0, found.1.as_secs_f64() * 1e3))
                    });
                self.screen.show(&[format!("* {what}")]).await;
                return nodes.get(index).cloned();
            }
            if let Some(address) = line.parse().ok().and_then(|index: usize| nodes.get(index)) {
                return Some(address.clone());
            }
            self.screen.show(&[format!("* a number from 0 to {last}, or Enter alone for the nearest")]).await;
        }
    }

    /// The answer to a question; `None` if the person leaves.
    async fn ask(&mut self, question: &str) -> Option<String> {
        tokio::select! {
            typed = self.prompter.ask(question) => match typed {
                Typed::Line(line) => Some(line),
                Typed::Leave => None,
            },
            () = self.interrupts.come() => None,
        }
    }

    /// A legal name; `None` if the person leaves.
    async fn choose_name(&mut self) -> Option<String> {
        match self.settings.name.take() {
            Some(name) => Some(name),
            None => self.ask_name().await,
        }
    }

    async fn ask_name(&mut self) -> Option<String> {
        let proposal = made_up_name();
        loop {
            let question = format!("Enter your name (Enter alone: {proposal}): ");
            let line = self.ask(&question).await?;
            let name = line.trim();
            if name.is_empty() {
                return Some(proposal);
            }
            match Name::parse(name.as_bytes()) {
                Ok(_) => return Some(name.to_owned()),
                Err(reason) => self.screen.show(&[format!("* {reason}")]).await,
            }
        }
    }

    /// Waits for the first registration; `false` if it does not come to that.
    async fn enter(&mut self, view: &mut View, running: &mut Running) -> bool {
        loop {
            tokio::select! {
                event = running.handle.events.recv() => {
                    let Some(event) = event else { return false };
                    self.show(view, &event).await;
                    match event {
                        Event::Registered { .. } => return true,
                        Event::NameRefused { .. } => {
                            let Some(name) = self.ask_name().await else { return false };
                            if running.handle.orders.send(Order::Name(name)).await.is_err() {
                                return false;
                            }
                        }
                        _ => {}
                    }
                }
                () = self.interrupts.come() => return false,
            }
        }
    }

    /// Until the person leaves, or the session ends by itself.
    async fn chat(&mut self, view: &mut View, running: &mut Running) {
        self.update_prompt(view);
        self.prompter.begin_chat();
        loop {
            let due = view.due();
            tokio::select! {
                event = running.handle.events.recv() => {
                    let Some(event) = event else { return };
                    self.show(view, &event).await;
                }
                typed = self.prompter.typed.recv() => {
                    let Some(Typed::Line(line)) = typed else { return };
                    if !self.obey(&line, view, &running.handle).await {
                        return;
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                    let lines = view.tick(Instant::now());
                    self.screen.show(&lines).await;
                }
                () = self.interrupts.come() => return,
            }
        }
    }

    /// Does what was typed; `false` to leave.
    async fn obey(&self, line: &str, view: &View, handle: &Handle) -> bool {
        let order = match Input::parse(line) {
            Ok(Input::Message { to, text }) => Order::Send { to, text },
            Ok(Input::Command(line)) => Order::Command(line),
            Ok(Input::Quit) => return false,
            Ok(Input::Nothing) => return true,
            Ok(Input::Help) => {
                self.screen.show(&help().iter().map(|line| view.notice(line)).collect::<Vec<_>>()).await;
                return true;
            }
            Err(error) => {
                self.screen.show(&[view.notice(&error.to_string())]).await;
                return true;
            }
        };
        if let Err(tokio::sync::mpsc::error::TrySendError::Full(_)) = handle.orders.try_send(order) {
            self.screen.show(&[view.notice("not sent: too much waits for a node already; try again later")]).await;
        }
        true
    }

    async fn show(&self, view: &mut View, event: &Event) {
        let lines = view.handle(event, Timestamp::now(), Instant::now());
        if matches!(event, Event::People(_) | Event::Registered { .. } | Event::Renamed { .. }) {
            self.update_prompt(view);
        }
        self.screen.show(&lines).await;
    }

    fn update_prompt(&self, view: &View) {
        let shown = &self.prompter.shown;
        *shown.prompt.write() = format!("{}> ", printable(view.me().as_bytes()));
        *shown.names.write() = view.names().map(str::to_owned).collect();
    }

    /// Shows what still comes while the session says goodbye.
    async fn leave(&self, view: &mut View, mut running: Running) -> Exit {
        let limit = Duration::from_millis(LEAVING_MS);
        let farewell = async {
            while let Some(event) = running.handle.events.recv().await {
                self.show(view, &event).await;
            }
            running.session.await.unwrap_or(End::Left)
        };
        match timeout(limit, farewell).await.unwrap_or(End::Left) {
            End::Left => Exit::Fine,
            End::NoNode => {
                complain(NO_NODE);
                Exit::NoNode
            }
            End::NameRefused(reason) => {
                complain(&reason);
                Exit::NameRefused
            }
        }
    }
}
