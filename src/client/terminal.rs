//! A person at a terminal.

use std::time::{Duration, Instant};

use jiff::{Timestamp, tz::TimeZone};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
    time::{sleep_until, timeout},
};

use super::{
    Exit, Settings, complain, conclude,
    events::Event,
    identity::Identity,
    input::{Input, help},
    made_up_name,
    nodes::{Nodes, nearest},
    prompt::{Prompter, Screen, Typed, start},
    render::View,
    session::{End, Handle, OnRefusal, Order, Session},
    spans::Traced,
    tty::TerminalGuard,
};
use crate::{
    chat::{Name, Passphrase, command::HISTORY_DEFAULT},
    wire::{extended::Why, lines::printable},
};

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
        let history = self.settings.history.unwrap_or(HISTORY_DEFAULT as u32);
        let identity = Identity::new(name.clone(), self.settings.passphrase.take(), history);
        let (session, handle) = Session::new(nodes, identity, OnRefusal::Ask, traced);
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
                Typed::Claim(_) | Typed::Leave => None,
            },
            () = self.interrupts.come() => None,
        }
    }

    /// The passphrase of a claimed name, or another name; `None` if the person leaves.
    async fn ask_passphrase(&mut self, name: &str) -> Option<Order> {
        let question = format!("Passphrase of {} (Enter alone: another name): ", printable(name.as_bytes()));
        let typed = tokio::select! {
            typed = self.prompter.ask_secret(&question) => typed,
            () = self.interrupts.come() => Typed::Leave,
        };
        match typed {
            Typed::Line(line) if line.is_empty() => self.ask_name().await.map(Order::Name),
            Typed::Line(line) => Some(Order::Passphrase(Passphrase::typed(line.as_bytes()))),
            Typed::Claim(_) | Typed::Leave => None,
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
                    let order = match event {
                        Event::Registered { .. } => return true,
                        // The session waits, then asks again by itself.
                        Event::NameRefused { why: Why::TooManyGuesses, .. } => continue,
                        Event::NameRefused { why: Why::PassphraseWanted | Why::PassphraseWrong, name, .. } => {
                            self.ask_passphrase(&name).await
                        }
                        Event::NameRefused { .. } => self.ask_name().await.map(Order::Name),
                        _ => continue,
                    };
                    let Some(order) = order else { return false };
                    if running.handle.orders.send(order).await.is_err() {
                        return false;
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
                    let stays = match typed {
                        Some(Typed::Line(line)) => self.obey(&line, view, &running.handle).await,
                        Some(Typed::Claim(secrets)) => {
                            self.claim(secrets, view, &running.handle).await;
                            true
                        }
                        Some(Typed::Leave) | None => false,
                    };
                    if !stays {
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
            Ok(Input::Claim(Some(passphrase))) => Order::Claim(passphrase),
            Ok(Input::Quit) => return false,
            // What is to be claimed with has been asked for where the line was typed.
            Ok(Input::Nothing | Input::Claim(None)) => return true,
            Ok(Input::Help) => {
                self.screen.show(&help().iter().map(|line| view.notice(line)).collect::<Vec<_>>()).await;
                return true;
            }
            Err(error) => {
                self.screen.show(&[view.notice(&error.to_string())]).await;
                return true;
            }
        };
        self.order(order, view, handle).await;
        true
    }

    /// `/claim` alone was typed, and then the passphrase.
    async fn claim(&self, secrets: Option<[String; 2]>, view: &View, handle: &Handle) {
        match secrets {
            Some([first, second]) if first == second && !first.is_empty() => {
                self.order(Order::Claim(Passphrase::typed(first.as_bytes())), view, handle).await;
            }
            Some([first, _]) if !first.is_empty() => {
                self.screen.show(&[view.notice("the two are not the same; nothing is changed")]).await;
            }
            _ => self.screen.show(&[view.notice("nothing is changed")]).await,
        }
    }

    async fn order(&self, order: Order, view: &View, handle: &Handle) {
        if let Err(tokio::sync::mpsc::error::TrySendError::Full(_)) = handle.orders.try_send(order) {
            self.screen.show(&[view.notice("not sent: too much waits for a node already; try again later")]).await;
        }
    }

    async fn show(&self, view: &mut View, event: &Event) {
        let lines = view.handle(event, Timestamp::now(), Instant::now());
        let is_about_names =
            matches!(event, Event::People(_) | Event::Rooms(_) | Event::Registered { .. } | Event::Renamed { .. });
        if is_about_names {
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
        conclude(timeout(limit, farewell).await.unwrap_or(End::Left))
    }
}
