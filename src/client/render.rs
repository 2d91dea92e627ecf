//! What a person at a terminal is shown: events in, lines out.
//!
//! Pure: the time, the zone and whether there are colours come in. Whatever others wrote is made harmless here.

use std::time::{Duration, Instant};

use jiff::{Timestamp, tz::TimeZone};
use nu_ansi_term::{Color, Style};

use super::{
    events::{Event, accepted_at, no_answer, wrong_passphrase},
    fate::{Fate, Fates, Stage, Verdict},
    input::is_for_many,
    people::People,
};
use crate::{
    chat::{message::EVERYONE, name, notice},
    wire::{
        extended::{Delivery, Registered, Why},
        lines::printable,
    },
};

/// Colours that can be read on light and on dark backgrounds, from the palette of 256.
const NAME_COLORS: [u8; 14] = [32, 33, 36, 64, 68, 99, 103, 130, 133, 136, 161, 166, 168, 172];
/// Most of those who have had a message that are named; the others are counted.
const MAX_NAMED: usize = 3;
/// A loss that is mended within this time is told in one line, afterwards.
const MENDED_SOON_MS: u64 = 1_000;

/// The screen of one person.
pub struct View {
    pub color: bool,
    pub zone: TimeZone,
    pub trace_url: Option<String>,
    me: String,
    node: Option<u32>,
    people: People,
    rooms: Vec<String>,
    /// What follows a registration is a snapshot, up to the state of the nodes.
    is_snapshot: bool,
    fates: Fates,
    lost: Option<Loss>,
}

/// A connection that was lost and not yet replaced.
struct Loss {
    reason: String,
    /// When it is told even if nothing else has happened; `None` once told.
    due: Option<Instant>,
}

impl View {
    pub fn new(color: bool, zone: TimeZone, trace_url: Option<String>, me: String) -> Self {
        Self {
            color,
            zone,
            trace_url,
            me,
            node: None,
            people: People::default(),
            rooms: Vec::new(),
            is_snapshot: true,
            fates: Fates::default(),
            lost: None,
        }
    }

    /// One's own name, as the node has it.
    pub fn me(&self) -> &str {
        &self.me
    }

    /// Those whom one can write to: people, then rooms.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let people = self.people.names().filter(|name| *name != self.me);
        people.chain(self.rooms.iter().map(String::as_str))
    }

    /// The lines that an event is worth.
    pub fn handle(&mut self, event: &Event, today: Timestamp, now: Instant) -> Vec<String> {
        match event {
            Event::Message(message) => vec![self.message(message, today)],
            Event::Sent { reference, to, text } => {
                self.fates.sent(*reference, to, text, now);
                Vec::new()
            }
            Event::Receipt(receipt) => {
                self.fates.receipt(receipt, now).map(|verdict| self.verdict(&verdict)).into_iter().collect()
            }
            Event::NotAnswered { reference, written } => {
                let verdict = self.fates.not_answered(*reference, *written, now);
                verdict.map(|verdict| self.verdict(&verdict)).into_iter().collect()
            }
            Event::Notice(text) => vec![self.notice(text)],
            Event::People(change) => {
                let me = self.me.clone();
                let sentences = self.people.apply(change, &me);
                if self.is_snapshot {
                    return Vec::new();
                }
                sentences.iter().map(|sentence| self.dim(&format!("* {}", printable(sentence.as_bytes())))).collect()
            }
            Event::Nodes(_) => {
                self.is_snapshot = false;
                Vec::new()
            }
            Event::Renamed { name, reason } => {
                self.me.clone_from(name);
                vec![self.notice(reason)]
            }
            Event::Rooms(change) => {
                self.rooms = change.rooms.iter().map(|room| room.name.clone()).collect();
                Vec::new()
            }
            // The node says it in words.
            Event::Claimed { .. } => Vec::new(),
            Event::NameRefused { name, reason, why, retry_after_ms } => {
                vec![self.notice(&refusal(name, reason, *why, *retry_after_ms))]
            }
            Event::Unreachable { address, reason } => {
                // After a loss one line in the end is enough.
                let is_first = self.node.is_none();
                let line = is_first.then(|| self.notice(&format!("{address} cannot be reached ({reason}); trying on")));
                line.into_iter().collect()
            }
            Event::Lost { reason } => {
                let due = Some(now + Duration::from_millis(MENDED_SOON_MS));
                self.lost = Some(Loss { reason: reason.clone(), due });
                Vec::new()
            }
            Event::Registered { address, registered } => self.registered(address, registered),
        }
    }

    /// The lines that are due although nothing has happened.
    pub fn tick(&mut self, now: Instant) -> Vec<String> {
        let due = self.fates.tick(now);
        let mut lines: Vec<String> = due.iter().map(|verdict| self.verdict(verdict)).collect();
        if let Some(loss) = &mut self.lost
            && loss.due.is_some_and(|due| due <= now)
        {
            loss.due = None;
            let node = self.node.map_or_else(String::new, |node| format!(" to node {node}"));
            let line =
                format!("the connection{node} is lost ({}); looking for another, what you type is kept", loss.reason);
            lines.push(self.notice(&line));
        }
        lines
    }

    /// When to `tick`.
    pub fn due(&self) -> Option<Instant> {
        let lost = self.lost.as_ref().and_then(|loss| loss.due);
        [self.fates.due(), lost].into_iter().flatten().min()
    }

    fn registered(&mut self, address: &str, registered: &Registered) -> Vec<String> {
        self.people.clear();
        self.is_snapshot = true;
        let before = self.node.replace(registered.node);
        let wanted = std::mem::replace(&mut self.me, registered.name.clone());
        let name = printable(registered.name.as_bytes()).into_owned();
        let mut lines = Vec::new();
        if let Some(loss) = self.lost.take() {
            let before = before.map_or_else(|| "the node".to_owned(), |node| format!("node {node}"));
            let mut line = format!("{before} is gone ({}); you are on node {} now", loss.reason, registered.node);
            if !registered.resumed {
                line.push_str(", which does not know where you were: something said meanwhile may be missing");
            }
            lines.push(self.notice(&line));
            if wanted != registered.name {
                lines.push(self.notice(&format!("somebody has the name {wanted} now; you are {name}")));
            }
            return lines;
        }
        let welcome = format!(
            "welcome, {}: you are on node {} ({}); {} of {} nodes, {}",
            self.paint_name(&name),
            registered.node,
            printable(address.as_bytes()),
            registered.nodes_reachable,
            registered.nodes_known,
            notice::people(registered.people as usize),
        );
        lines.push(format!("* {welcome}"));
        lines.push(self.dim("* try:  * hello everyone   NAME hello   /who   /join #ROOM   /help   /quit"));
        lines
    }

    fn message(&self, message: &Delivery, today: Timestamp) -> String {
        let time = time(accepted_at(message), today, &self.zone);
        let from = printable(message.from.as_bytes());
        let mark = match (message.from_split, message.replayed) {
            (true, _) => " (from the split)",
            (false, true) => " (earlier)",
            // Without colours it would look like the rest.
            (false, false) if message.history && !self.color => " (earlier)",
            (false, false) => "",
        };
        // Lines of a text of several lines are indented, so that none can pass for a message of its own.
        let text = message.text.split(|byte| *byte == b'\n').map(printable).collect::<Vec<_>>().join("\n        ");
        let is_mine = message.from == self.me && !is_for_many(&message.to);
        let to = printable(message.to.as_bytes());
        if message.history {
            let to = if is_for_many(&message.to) || is_mine { format!(" to {to}") } else { String::new() };
            return self.dim(&format!("{time} {from}{to}{mark}: {text}"));
        }
        let to = match message.to.as_str() {
            EVERYONE => self.dim(" to *"),
            room if is_for_many(room) => format!("{} {}", self.dim(" to"), self.paint(name_color(room).normal(), &to)),
            _ => String::new(),
        };
        format!("{} {}{to}{}: {text}", self.dim(&time), self.paint_name(&from), self.dim(mark))
    }

    /// What became of a message, in one line.
    fn verdict(&self, verdict: &Verdict) -> String {
        let fate = &verdict.fate;
        let nodes = || format!("on {} of {} nodes", fate.nodes_holding, fate.nodes_known);
        let to_many = is_for_many(&fate.to);
        let (sign, what) = match fate.stage {
            Stage::Sent => ('?', "no answer from the node yet".to_owned()),
            Stage::Unknown => ('?', no_answer(true).to_owned()),
            Stage::NotSent => ('✗', no_answer(false).to_owned()),
            Stage::Accepted if to_many => ('✓', format!("accepted, {}; nobody else has it yet", nodes())),
            Stage::Accepted => ('…', format!("accepted, {}; not delivered yet", nodes())),
            Stage::Kept if !fate.reason.is_empty() => ('…', fate.reason.clone()),
            Stage::Kept => ('…', "kept until its addressee can be reached again".to_owned()),
            Stage::Delivered if to_many => ('✓', format!("delivered to {}, {}", recipients(fate), nodes())),
            Stage::Delivered => ('✓', format!("delivered in {}", short(fate.took))),
            Stage::Refused | Stage::Undelivered if !fate.reason.is_empty() => ('✗', fate.reason.clone()),
            Stage::Refused => ('✗', "not sent".to_owned()),
            Stage::Undelivered => ('✗', "not delivered: the addressee had left".to_owned()),
        };
        let which = if verdict.is_older { format!(" “{}”", fate.text) } else { String::new() };
        let trace = match (self.trace_url.as_deref().unwrap_or_default(), fate.trace_id.as_str()) {
            (_, "") => String::new(),
            (url, id) => format!("  trace {url}{id}"),
        };
        let line = format!("  {sign} to {}{which}: {what}{trace}", fate.to);
        let line = printable(line.as_bytes());
        match sign {
            '✓' => self.dim(&line),
            '✗' => self.paint(Color::Red.normal(), &line),
            _ => self.paint(Color::Yellow.normal(), &line),
        }
    }

    /// A sentence that nobody in particular says.
    pub fn notice(&self, text: &str) -> String {
        self.paint(Color::Cyan.normal(), &format!("* {}", printable(text.as_bytes())))
    }

    fn paint_name(&self, shown: &str) -> String {
        self.paint(Style::new().bold().fg(name_color(shown)), shown)
    }

    fn dim(&self, text: &str) -> String {
        if text.is_empty() {
            return String::new();
        }
        self.paint(Style::new().dimmed(), text)
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.color { style.paint(text).to_string() } else { text.to_owned() }
    }
}

/// The time of day here, with the date if it is not today's.
pub fn time(at: Timestamp, today: Timestamp, zone: &TimeZone) -> String {
    let (at, today) = (at.to_zoned(zone.clone()), today.to_zoned(zone.clone()));
    let format = if at.date() == today.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    at.strftime(format).to_string()
}

/// Why one does not have the name, in a sentence; the node's own are written for people who type everything by hand.
pub fn refusal(name: &str, reason: &str, why: Why, retry_after_ms: u64) -> String {
    match why {
        Why::PassphraseWanted => format!("the name {name} is claimed"),
        Why::PassphraseWrong => wrong_passphrase(name),
        Why::TooManyGuesses => format!("{reason}; waiting {}", short(Duration::from_millis(retry_after_ms))),
        Why::Unspecified | Why::Illegal | Why::Taken | Why::Stopping => reason.to_owned(),
    }
}

/// `bob, carol and 3 more`; or their number, if no names are known.
fn recipients(fate: &Fate) -> String {
    let count = fate.recipients as usize;
    let shown = fate.names.len().min(MAX_NAMED);
    let named = fate.names[..shown].join(", ");
    match count.saturating_sub(shown) {
        _ if shown == 0 => notice::people(count),
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Always the same for a name, on every screen.
fn name_color(shown: &str) -> Color {
    let key = name::key(shown).unwrap_or(std::borrow::Cow::Borrowed(shown));
    // FNV-1a: the standard library's hash may change from version to version.
    let hash = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let index = usize::try_from(hash >> 32).unwrap_or_default() % NAME_COLORS.len();
    Color::Fixed(NAME_COLORS[index])
}

/// A duration as people say it.
fn short(took: Duration) -> String {
    match took.as_millis() {
        0 => "under 1 ms".to_owned(),
        millis @ 1..1_000 => format!("{millis} ms"),
        millis => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
