//! A node as the client sees it, played by a test: it says what the test wants, when the test wants it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use clique::wire::{
    extended::{
        Delivery, FromClient, FromNode, Height, MessageId, NodesChanged, Origin, PeopleChanged, PersonAt, Receipt,
        RegisterRefused, Registered, State,
    },
    frames::{self, kind},
};

/// Longer than anything takes that works.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How a node behaves by itself.
#[derive(Clone, Default)]
pub struct Manners {
    /// Names that somebody else has.
    pub taken: Vec<String>,
    /// Messages get no receipt.
    pub is_silent: bool,
    /// After a registration nothing is answered, as on a link that is cut without a word.
    pub is_frozen: bool,
    /// Messages get this receipt; delivered if there is none.
    pub receipt: Option<Receipt>,
}

pub struct FakeNode {
    pub index: u32,
    pub address: String,
    /// What clients say.
    pub heard: Receiver<FromClient>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    is_down: Arc<AtomicBool>,
}

impl FakeNode {
    pub fn start(index: u32, manners: Manners) -> Self {
        Self::start_at(index, "127.0.0.1:0", manners)
    }

    pub fn start_at(index: u32, address: &str, manners: Manners) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let streams = Arc::new(Mutex::new(Vec::new()));
        let is_down = Arc::new(AtomicBool::new(false));
        let (said, heard) = channel();
        let (all, down) = (Arc::clone(&streams), Arc::clone(&is_down));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                if down.load(Ordering::SeqCst) {
                    return;
                }
                all.lock().unwrap().push(stream.try_clone().unwrap());
                let (manners, said) = (manners.clone(), said.clone());
                thread::spawn(move || serve(index, stream, &manners, &said));
            }
        });
        Self { index, address, heard, streams, is_down }
    }

    /// Says something to every client that is connected.
    pub fn say(&self, frame: &FromNode) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        for stream in &mut *self.streams.lock().unwrap() {
            let _ = stream.write_all(&bytes);
        }
    }

    /// Somebody says something to the client.
    pub fn deliver(&self, number: u64, from: &str, to: &str, text: &str) {
        let id = Some(MessageId { origin: Some(origin(self.index)), number });
        let text = text.as_bytes().to_vec();
        let time_unix_ms = 1_700_000_000_000;
        self.say(&FromNode::Delivery(Delivery {
            id,
            from: from.to_owned(),
            to: to.to_owned(),
            text,
            time_unix_ms,
            ..Delivery::default()
        }));
    }

    /// Dies: connections are cut and no new ones are taken.
    pub fn die(&self) {
        self.is_down.store(true, Ordering::SeqCst);
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(&self.address);
    }

    /// The next thing of interest that a client says.
    pub fn hear<T>(&self, wanted: impl Fn(FromClient) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let said = self.heard.recv_timeout(left).expect("the client says what is waited for");
            if let Some(found) = wanted(said) {
                return found;
            }
        }
    }

    pub fn hear_message(&self) -> (u64, String, String) {
        self.hear(|said| match said {
            FromClient::Send(send) => Some((send.reference, send.to, String::from_utf8(send.text).unwrap())),
            _ => None,
        })
    }
}

pub fn origin(node: u32) -> Origin {
    Origin { node, incarnation: 1 }
}

fn serve(index: u32, mut stream: TcpStream, manners: &Manners, said: &Sender<FromClient>) {
    let mut buffer = BytesMut::new();
    let mut piece = [0; 4096];
    let mut number = 0;
    loop {
        while let Ok(Some(frame)) = frames::decode(&mut buffer) {
            let mut out = Vec::new();
            match frame.kind {
                kind::ECHO => frames::encode_empty(&mut out, kind::ECHO_ANSWER),
                kind::GOODBYE => frames::encode_empty(&mut out, kind::GOODBYE_ANSWER),
                _ => {}
            }
            let from_client = FromClient::read(&frame).ok().flatten();
            number += 1;
            for answer in from_client.iter().flat_map(|said| answers(index, number, said, manners)) {
                answer.encode(&mut out);
            }
            let is_heard = !manners.is_frozen || frame.kind == kind::REGISTER_EXTENDED;
            if is_heard && stream.write_all(&out).is_err() {
                return;
            }
            // Only now, so that what the test says next comes after the answer.
            from_client.into_iter().for_each(|heard| drop(said.send(heard)));
        }
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => buffer.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
}

fn answers(index: u32, number: u64, said: &FromClient, manners: &Manners) -> Vec<FromNode> {
    match said {
        FromClient::Register(register) if manners.taken.contains(&register.name) => {
            let reason = format!("the name {} is taken; choose another", register.name);
            vec![FromNode::RegisterRefused(RegisterRefused { reason, taken: true, ..RegisterRefused::default() })]
        }
        FromClient::Register(register) => {
            let person = |name: &str, node| PersonAt { name: name.to_owned(), node };
            vec![
                FromNode::Registered(Registered {
                    name: register.name.clone(),
                    node: index,
                    nodes_reachable: 2,
                    nodes_known: 2,
                    people: 2,
                    resumed: register.resume.is_some(),
                    heights: vec![Height { origin: Some(origin(index)), height: 10 }],
                    ..Registered::default()
                }),
                FromNode::PeopleChanged(PeopleChanged {
                    snapshot: true,
                    joined: vec![person(&register.name, index), person("bobby", 1)],
                    left: Vec::new(),
                }),
                FromNode::NodesChanged(NodesChanged::default()),
            ]
        }
        FromClient::Send(_) if manners.is_silent => Vec::new(),
        FromClient::Send(send) => {
            let delivered = Receipt { state: State::Delivered.into(), recipients: 1, ..Receipt::default() };
            let receipt = manners.receipt.clone().unwrap_or(delivered);
            let id = Some(MessageId { origin: Some(origin(index)), number });
            vec![FromNode::Receipt(Receipt { reference: send.reference, id, ..receipt })]
        }
        FromClient::Command(command) => {
            let text = format!("you asked for {}", command.line);
            vec![FromNode::Notice(clique::wire::extended::Notice { text })]
        }
    }
}

/// The client's process, with the nodes it is to know.
pub fn client(nodes: &[&FakeNode]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clique"));
    let list: Vec<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
    command.arg("client").env("CLIQUE_NODES", list.join(","));
    for variable in ["CLIQUE_NODE", "CLIQUE_NAME", "CLIQUE_TRACE_URL", "NO_COLOR", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
        command.env_remove(variable);
    }
    command
}

/// A client between pipes.
pub struct Piped {
    pub child: Child,
    pub input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Piped {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (sender, lines) = channel();
        let output = child.stdout.take().unwrap();
        thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(output)).map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let input = child.stdin.take();
        Self { child, input, lines }
    }

    pub fn type_line(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line with all of these in it.
    pub fn line_with(&self, parts: &[&str]) -> String {
        let end = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with {parts:?}; there were {seen:#?}");
            };
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
            seen.push(line);
        }
    }

    /// Ends the input and gives the exit code.
    pub fn end(&mut self) -> i32 {
        drop(self.input.take());
        self.exit_code()
    }

    pub fn exit_code(&mut self) -> i32 {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < end, "the client does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// All lines that are left; after the end.
    pub fn rest(&self) -> Vec<String> {
        self.lines.iter().collect()
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
