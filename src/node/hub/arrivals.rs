//! Entries that come from a peer.

use super::{Hub, Now, Ports, TraceStep};
use crate::{
    chat::notice,
    clique::{Chunk, LinkId, Origin, Received, time::unix_ms},
    wire::{
        entry::{entries, read_chunk},
        peer::Entries,
    },
};

impl Hub {
    pub(super) fn entries(&mut self, link: LinkId, entries: Entries, now: Now, ports: &mut impl Ports) {
        let Entries { origin, first, sent_unix_us, bytes } = entries;
        let (chunk, latest) = match read_chunk(first, bytes) {
            Ok(read) => read,
            Err(error) => return ports.close_link(link, &error.to_string()),
        };
        let height = self.replica.log().height(origin);
        let received = self.replica.receive(link, origin, chunk.clone(), latest, now.monotonic_ms);
        match received {
            Received::New | Received::AfterHole { .. } => {}
            // Of the latter a few are under way whenever another link takes over.
            Received::Duplicate | Received::Unasked => return,
            Received::NoRoom => {
                let stop = self.replica.ask_later(link, origin);
                return Self::send_asks(vec![stop], ports);
            }
            Received::AskAgain => {
                let asks = self.replica.ask_again(link, origin);
                return Self::send_asks(asks, ports);
            }
        }
        if let Received::AfterHole { lost } = received {
            self.tell_everyone(&notice::lost_in_cut(origin.node, lost), ports);
        }
        self.note_late(origin, &chunk.from(height + 1), now);
        if sent_unix_us != 0 {
            self.trace_crossing(link, origin, &chunk.from(height + 1), sent_unix_us, now, ports);
        }
        if let Some(state) = self.links.get_mut(&link) {
            state.unacknowledged += chunk.ends.len() as u64;
        }
    }

    fn trace_crossing(
        &self,
        link: LinkId,
        origin: Origin,
        chunk: &Chunk,
        sent_unix_us: u64,
        now: Now,
        ports: &mut impl Ports,
    ) {
        let Some(from_node) = self.links.get(&link).map(|link| link.node) else { return };
        for (number, view) in entries(chunk) {
            if let Some(trace) = view.message().and_then(|message| message.trace) {
                ports.trace(TraceStep::Crossed {
                    trace,
                    origin,
                    number,
                    from_node,
                    accepted_unix_ms: unix_ms(view.time),
                    sent_unix_us,
                    received_unix_us: now.unix_us,
                });
            }
        }
    }
}
