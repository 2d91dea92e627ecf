//! The line being typed: an editor on a thread of its own, and a way to print above it.
//!
//! The editor blocks, so it has a thread. It is told what to ask, and tells what was typed. Whatever is to be shown goes
//! through [`Screen`], which hands it to the editor while a line is being typed: the editor takes its line away, prints,
//! and puts the line back, so that neither tears the other.

use std::{
    io,
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use parking_lot::{Condvar, Mutex, RwLock};
use rustyline::{
    ColorMode, CompletionType, Config, Context, Editor, ExternalPrinter as _, Helper, completion::Completer,
    error::ReadlineError, highlight::Highlighter, hint::Hinter, history::MemHistory, validate::Validator,
};
use tokio::sync::mpsc;

use super::complete::complete;

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
    /// Line after line, each remembered.
    Chat,
}

impl Prompter {
    /// Asks one question.
    pub async fn ask(&mut self, question: &str) -> Typed {
        if self.asks.send(Ask::Question(question.to_owned())).is_err() {
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
    let config = Config::builder()
        .max_history_size(HISTORY_LINES)?
        .history_ignore_dups(true)?
        .completion_type(CompletionType::List)
        .color_mode(if color { ColorMode::Enabled } else { ColorMode::Disabled })
        .build();
    let (shown, gate) = (Arc::new(Shown::default()), Arc::new(Gate::default()));
    let mut editor = LineEditor::with_history(config.clone(), MemHistory::with_config(&config))?;
    editor.set_helper(Some(Assistant { shown: Arc::clone(&shown), gate: Arc::clone(&gate) }));
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
    let editor_shown = Arc::clone(&shown);
    thread::Builder::new().name("prompt".to_owned()).spawn(move || {
        edit(&mut editor, &asked, &typing, &editor_shown, &gate);
        // Also after an error; if nobody listens the client is ending anyway.
        let _ = typing.blocking_send(Typed::Leave);
    })?;
    Ok((Prompter { asks, typed, shown }, Screen { blocks }))
}

/// The editor's life; ends when the person leaves or nobody asks any more.
fn edit(
    editor: &mut LineEditor,
    asked: &std::sync::mpsc::Receiver<Ask>,
    typing: &mpsc::Sender<Typed>,
    shown: &Shown,
    gate: &Gate,
) {
    let mut read = |prompt: &str, is_chat: bool| {
        gate.close();
        let line = editor.readline(prompt);
        gate.open();
        let line = line.ok()?;
        if is_chat {
            // A history in memory takes every line.
            let _ = editor.add_history_entry(line.as_str());
        }
        typing.blocking_send(Typed::Line(line)).ok()
    };
    while let Ok(ask) = asked.recv() {
        match ask {
            Ask::Question(question) => {
                if read(&question, false).is_none() {
                    return;
                }
            }
            Ask::Chat => loop {
                let prompt = shown.prompt.read().clone();
                if read(&prompt, true).is_none() {
                    return;
                }
            },
        }
    }
}

/// Completes lines, and notices when one begins to be typed.
struct Assistant {
    shown: Arc<Shown>,
    gate: Arc<Gate>,
}

impl Completer for Assistant {
    type Candidate = String;
    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
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

impl Highlighter for Assistant {}
impl Validator for Assistant {}
impl Helper for Assistant {}

/// Gives the terminal back as it was found, whatever happens: the editor may be in the middle of a line.
pub struct TerminalGuard {
    found: Option<Termios>,
}

impl TerminalGuard {
    pub fn new() -> Self {
        Self { found: tcgetattr(io::stdin().as_fd()).ok() }
    }

    /// Ends what the editor began: raw mode, and the marking of pasted text.
    pub fn restore(&self) {
        if let Some(found) = &self.found {
            let changed = tcgetattr(io::stdin().as_fd()).is_ok_and(|now| now.local_flags != found.local_flags);
            // If the terminal itself is gone there is nothing to give back.
            let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, found);
            if changed {
                let _ = io::Write::write_all(&mut io::stdout(), b"\x1b[?2004l\r\n");
                let _ = io::Write::flush(&mut io::stdout());
            }
        }
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        self.restore();
    }
}
