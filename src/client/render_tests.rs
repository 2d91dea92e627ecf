use super::*;
use crate::wire::extended::{NodesChanged, PeopleChanged, PersonAt, Receipt, State};

fn view() -> View {
    View::new(false, TimeZone::UTC, Some("http://j/trace/".to_owned()), "alice".to_owned())
}

fn lines(view: &mut View, event: &Event) -> Vec<String> {
    view.handle(event, Timestamp::UNIX_EPOCH, Instant::now())
}

fn message(from: &str, to: &str, text: &str) -> Event {
    Event::Message(Box::new(Delivery {
        from: from.to_owned(),
        to: to.to_owned(),
        text: text.as_bytes().to_vec(),
        time_unix_ms: 3_600_000,
        ..Delivery::default()
    }))
}

fn registered(node: u32, resumed: bool) -> Event {
    Event::Registered {
        address: "h:1".to_owned(),
        registered: Box::new(Registered {
            name: "alice".to_owned(),
            node,
            nodes_reachable: 5,
            nodes_known: 5,
            people: 2,
            resumed,
            ..Registered::default()
        }),
    }
}

#[test]
fn messages_show_who_spoke_to_whom_and_when() {
    let mut view = view();
    assert_eq!(lines(&mut view, &message("bob", "alice", "hi")), ["01:00 bob: hi"]);
    assert_eq!(lines(&mut view, &message("bob", "*", "hi")), ["01:00 bob to *: hi"]);
    let tomorrow = Timestamp::from_second(90_000).unwrap();
    let old = view.handle(&message("bob", "alice", "hi"), tomorrow, Instant::now());
    assert_eq!(old, ["1970-01-01 01:00 bob: hi"]);
}

#[test]
fn no_text_can_steer_the_terminal_or_forge_a_line() {
    let mut view = view();
    let shown = lines(&mut view, &message("eve\x1b[2J", "alice", "x\n01:00 bob: pay\x1b]0;t\x07 me\u{202e}"));
    assert_eq!(shown, ["01:00 eve\u{241b}[2J: x\n        01:00 bob: pay\u{241b}]0;t\u{2407} me\u{fffd}"]);
    let notice = lines(&mut view, &Event::Notice("a\nb\x1b[1m".to_owned()));
    assert_eq!(notice, ["* a\u{240a}b\u{241b}[1m"]);
    let refused =
        Receipt { reference: 1, state: State::Refused.into(), reason: "\x1b[2J".into(), ..Receipt::default() };
    lines(&mut view, &Event::Sent { reference: 1, to: "b\x1bc".to_owned(), text: "t".to_owned() });
    assert_eq!(lines(&mut view, &Event::Receipt(Box::new(refused))), ["  ✗ to b\u{241b}c: \u{241b}[2J"]);
}

#[test]
fn a_fate_is_one_line_with_its_trace() {
    let mut view = view();
    lines(&mut view, &Event::Sent { reference: 1, to: "bob".to_owned(), text: "hi".to_owned() });
    let delivered = Receipt {
        reference: 1,
        state: State::Delivered.into(),
        recipients: 1,
        trace_id: "0af7".to_owned(),
        ..Receipt::default()
    };
    let shown = lines(&mut view, &Event::Receipt(Box::new(delivered)));
    assert_eq!(shown, ["  ✓ to bob: delivered in under 1 ms  trace http://j/trace/0af7"]);
}

#[test]
fn a_loss_that_is_mended_soon_is_one_line() {
    let mut view = view();
    assert_eq!(lines(&mut view, &registered(2, false)).len(), 2, "a welcome, and what to try");
    assert!(lines(&mut view, &Event::Lost { reason: "it closed the connection".to_owned() }).is_empty());
    assert!(lines(&mut view, &Event::Unreachable { address: "h:2".to_owned(), reason: "no".to_owned() }).is_empty());
    assert_eq!(
        lines(&mut view, &registered(3, true)),
        ["* node 2 is gone (it closed the connection); you are on node 3 now"]
    );
    assert_eq!(view.due(), None);
}

#[test]
fn a_longer_loss_is_told_while_it_lasts() {
    let mut view = view();
    lines(&mut view, &registered(2, false));
    let now = Instant::now();
    view.handle(&Event::Lost { reason: "cut".to_owned() }, Timestamp::UNIX_EPOCH, now);
    let due = now + Duration::from_millis(MENDED_SOON_MS);
    assert_eq!(view.due(), Some(due));
    assert_eq!(
        view.tick(due),
        ["* the connection to node 2 is lost (cut); looking for another, what you type is kept"]
    );
    assert_eq!(view.due(), None);
}

#[test]
fn only_changes_after_the_snapshot_are_told() {
    let mut view = view();
    lines(&mut view, &registered(0, false));
    let joined = |name: &str, snapshot| {
        let joined = vec![PersonAt { name: name.to_owned(), node: 1 }];
        Event::People(PeopleChanged { snapshot, joined, left: Vec::new() })
    };
    assert!(lines(&mut view, &joined("bob", true)).is_empty());
    assert!(lines(&mut view, &joined("carol", false)).is_empty(), "a second piece of the snapshot");
    lines(&mut view, &Event::Nodes(NodesChanged::default()));
    assert_eq!(lines(&mut view, &joined("dave", false)), ["* dave is here, on node 1"]);
    assert_eq!(view.names().collect::<Vec<_>>(), ["bob", "carol", "dave"]);
}

#[test]
fn a_name_has_one_color_however_it_is_written_and_names_differ() {
    assert_eq!(name_color("Alice"), name_color("alice"));
    let colors: std::collections::BTreeSet<String> =
        ["alice", "bob", "carol", "dave", "erin"].map(|name| format!("{:?}", name_color(name))).into();
    assert!(colors.len() >= 3, "{colors:?}");
    let mut view = view();
    view.color = true;
    assert!(lines(&mut view, &message("bob", "alice", "hi"))[0].contains("\x1b["));
}
