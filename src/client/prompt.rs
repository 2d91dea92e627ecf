//! The line being typed: an editor on a thread of its own, and a way to print above it.
//!
//! The editor blocks, so it has a thread. It is told what to ask, and tells what was typed. Whatever is to be shown goes
//! through [`Screen`], which hands it to the editor while a line is being typed: the editor takes its line away, prints,
//! and puts the line back, so that neither tears the other.

use std::{
    borrow::Cow,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex, RwLock};
use rustyline::{
    ColorMode, CompletionType, Config, Context, Editor, ExternalPrinter as _, Helper,
    completion::Completer,
    config::Configurer as _,
    error::ReadlineError,
    highlight::{CmdKind, Highlighter},
    hint::Hinter,
    history::MemHistory,
    validate::Validator,
};
use tokio::sync::mpsc;

use super::{complete::complete, input::Input, tty::NoEcho};

/// Lines that can be recalled.
const HISTORY_LINES: usize = 1_000;
/// Blocks of lines that wait to be shown; beyond it whoever shows waits.
const MAX_WAITING_BLOCKS: usize = 256;
/// How long a print and the beginning of a line wait for each other at most.
const GATE_MS: u64 = 50;

/// Why there is no line editor.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    #[error("the terminal cannot be used: {0}")]
    Terminal(#[from] ReadlineError),
    #[error("no thread for the terminal: {0}")]
    Thread(#[from] io::Error),
}

/// What the person did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    Line(String),
    /// `/claim` alone, and then twice what should be the same passphrase; nothing if the person thought better of it.
    Claim(Option<[String; 2]>),
    /// Ctrl-C, Ctrl-D, or the terminal is gone.
    Leave,
}

/// What the editor shows before the line, and completes in it; changes take effect with the next line.
#[derive(Debug, Default)]
pub struct Shown {
    pub prompt: RwLock<String>,
    pub names: RwLock<Vec<String>>,
}

/// Keeps printing and the beginning of a line apart: a print that finds no line being typed writes straight to the
/// terminal, and must have ended before the next line is painted.
#[derive(Debug, Default)]
struct Gate {
    /// A line is about to be painted.
    is_closed: AtomicBool,
    printing: Mutex<()>,
    opened: Condvar,
}

impl Gate {
    /// A line is about to be painted: waits for the print that is under way. Not for ever, since that print may itself
    /// wait for the editor.
    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        drop(self.printing.try_lock_for(Duration::from_millis(GATE_MS)));
    }

    /// From here on the editor prints.
    fn open(&self) {
        if self.is_closed.swap(false, Ordering::SeqCst) {
            self.opened.notify_all();
        }
    }

    /// Prints when the gate is open, or after a while: an editor on a dumb terminal never opens it.
    fn pass<T>(&self, print: impl FnOnce() -> T) -> T {
        let mut printing = self.printing.lock();
        if self.is_closed.load(Ordering::SeqCst)
            && self.opened.wait_for(&mut printing, Duration::from_millis(GATE_MS)).timed_out()
        {
            drop(printing);
            return print();
        }
        print()
    }
}

/// Prints above the line being typed.
#[derive(Clone)]
pub struct Screen {
    blocks: mpsc::Sender<String>,
}

impl Screen {
    /// Shows lines; waits while the terminal is slow.
    pub async fn show(&self, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        let mut block = lines.join("\n");
        block.push('\n');
        // The printing thread ends only with the terminal.
        let _ = self.blocks.send(block).await;
    }
}

/// Asks the editor for lines.
pub struct Prompter {
    asks: std::sync::mpsc::Sender<Ask>,
    pub typed: mpsc::Receiver<Typed>,
    pub shown: Arc<Shown>,
}

enum Ask {
    /// One line, after this question.
    Question(String),
    /// The same, and nobody sees it.
    Secret(String),
    /// Line after line, each remembered.
    Chat,
}

impl Prompter {
    /// Asks one question.
    pub async fn ask(&mut self, question: &str) -> Typed {
        self.answer(Ask::Question(question.to_owned())).await
    }

    /// Asks for something that is not to be seen.
    pub async fn ask_secret(&mut self, question: &str) -> Typed {
        self.answer(Ask::Secret(question.to_owned())).await
    }

    async fn answer(&mut self, ask: Ask) -> Typed {
        if self.asks.send(ask).is_err() {
            return Typed::Leave;
        }
        self.typed.recv().await.unwrap_or(Typed::Leave)
    }

    /// From now on everything typed comes through `typed`.
    pub fn begin_chat(&self) {
        // If the editor has ended, `typed` says so.
        let _ = self.asks.send(Ask::Chat);
    }
}

type LineEditor = Editor<Assistant, MemHistory>;

/// Starts the editor and the printer.
///
/// # Errors
/// If the terminal cannot be used.
pub fn start(color: bool) -> Result<(Prompter, Screen), PromptError> {
    let color_mode = if color { ColorMode::Enabled } else { ColorMode::Disabled };
    let config = Config::builder()
        .max_history_size(HISTORY_LINES)?
        .history_ignore_dups(true)?
        .completion_type(CompletionType::List)
        .color_mode(color_mode)
        .build();
    let (shown, gate) = (Arc::new(Shown::default()), Arc::new(Gate::default()));
    let mut editor = LineEditor::with_history(config.clone(), MemHistory::with_config(&config))?;
    editor.set_helper(Some(Assistant { shown: Arc::clone(&shown), gate: Arc::clone(&gate), is_secret: false }));
    let mut printer = editor.create_external_printer()?;
    let (blocks, mut waiting) = mpsc::channel::<String>(MAX_WAITING_BLOCKS);
    let printer_gate = Arc::clone(&gate);
    thread::Builder::new().name("screen".to_owned()).spawn(move || {
        while let Some(mut block) = waiting.blocking_recv() {
            // What has piled up is printed at once: each print repaints the line being typed.
            while let Ok(more) = waiting.try_recv() {
                block.push_str(&more);
            }
            if printer_gate.pass(|| printer.print(block)).is_err() {
                return;
            }
        }
    })?;
    let (asks, asked) = std::sync::mpsc::channel();
    let (typing, typed) = mpsc::channel(16);
    let mut asker = Asker { editor, typing: typing.clone(), shown: Arc::clone(&shown), gate, color_mode };
    thread::Builder::new().name("prompt".to_owned()).spawn(move || {
        asker.live(&asked);
        // Also after an error; if nobody listens the client is ending anyway.
        let _ = typing.blocking_send(Typed::Leave);
    })?;
    Ok((Prompter { asks, typed, shown }, Screen { blocks }))
}

/// The editor's thread.
struct Asker {
    editor: LineEditor,
    typing: mpsc::Sender<Typed>,
    shown: Arc<Shown>,
    gate: Arc<Gate>,
    color_mode: ColorMode,
}

impl Asker {
    /// Ends when the person leaves or nobody asks any more.
    fn live(&mut self, asked: &std::sync::mpsc::Receiver<Ask>) {
        while let Ok(ask) = asked.recv() {
            let answered = match ask {
                Ask::Question(question) => self.read(&question).ok().and_then(|line| self.say(Typed::Line(line))),
                Ask::Secret(question) => self.read_secret(&question).ok().and_then(|line| self.say(Typed::Line(line))),
                Ask::Chat => {
                    while self.chat().is_some() {}
                    None
                }
            };
            if answered.is_none() {
                return;
            }
        }
    }

    /// One line of the conversation; what holds a passphrase cannot be recalled.
    fn chat(&mut self) -> Option<()> {
        let prompt = self.shown.prompt.read().clone();
        let line = self.read(&prompt).ok()?;
        match Input::parse(&line) {
            Ok(Input::Claim(None)) => {
                let secrets = self.read_secret("Passphrase: ").and_then(|first| {
                    let second = self.read_secret("The same again: ")?;
                    Ok([first, second])
                });
                // Ctrl-C here is not meant for the conversation.
                self.say(Typed::Claim(secrets.ok()))
            }
            Ok(Input::Claim(Some(_))) => self.say(Typed::Line(line)),
            _ => {
                // A history in memory takes every line.
                let _ = self.editor.add_history_entry(line.as_str());
                self.say(Typed::Line(line))
            }
        }
    }

    fn say(&self, typed: Typed) -> Option<()> {
        self.typing.blocking_send(typed).ok()
    }

    fn read(&mut self, prompt: &str) -> rustyline::Result<String> {
        self.gate.close();
        let line = self.editor.readline(prompt);
        self.gate.open();
        line
    }

    /// Neither the terminal nor the editor shows what is typed; what comes in meanwhile is printed above as usual.
    fn read_secret(&mut self, prompt: &str) -> rustyline::Result<String> {
        let _quiet = NoEcho::begin();
        self.mask(true, ColorMode::Forced);
        let line = self.read(prompt);
        self.mask(false, self.color_mode);
        line
    }

    /// The editor asks how its line is to be painted only when it may use colours.
    fn mask(&mut self, is_secret: bool, color_mode: ColorMode) {
        if let Some(assistant) = self.editor.helper_mut() {
            assistant.is_secret = is_secret;
        }
        self.editor.set_color_mode(color_mode);
    }
}

/// Completes lines, and notices when one begins to be typed.
struct Assistant {
    shown: Arc<Shown>,
    gate: Arc<Gate>,
    /// The line is a passphrase.
    is_secret: bool,
}

impl Completer for Assistant {
    type Candidate = String;
    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        if self.is_secret {
            return Ok((cursor, Vec::new()));
        }
        Ok(complete(line, cursor, &self.shown.names.read()))
    }
}

impl Hinter for Assistant {
    type Hint = String;
    /// There are no hints; the editor asks for them whenever it is about to paint its line, and from then on it prints.
    fn hint(&self, _: &str, _: usize, _: &Context<'_>) -> Option<String> {
        self.gate.open();
        None
    }
}

impl Highlighter for Assistant {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        // As wide as what is hidden, because the editor counts its columns.
        if self.is_secret { Cow::Owned(" ".repeat(line.chars().count())) } else { Cow::Borrowed(line) }
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        self.is_secret && kind != CmdKind::MoveCursor
    }
}

impl Validator for Assistant {}
impl Helper for Assistant {}
