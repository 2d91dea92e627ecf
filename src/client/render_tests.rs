use super::*;
use crate::wire::extended::{NodesChanged, PeopleChanged, PersonAt, Receipt, RoomState, RoomsChanged, State};

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
fn rooms_are_addressees_like_everyone_and_complete_like_people() {
    let mut view = view();
    assert_eq!(lines(&mut view, &message("bob", "#ship", "ahoy")), ["01:00 bob to #ship: ahoy"]);
    let rooms = vec![RoomState { name: "#ship".to_owned(), topic: String::new() }];
    assert!(lines(&mut view, &Event::Rooms(RoomsChanged { rooms })).is_empty());
    assert_eq!(view.names().collect::<Vec<_>>(), ["#ship"]);
    view.color = true;
    let shown = &lines(&mut view, &message("bob", "#ship", "ahoy"))[0];
    assert!(shown.contains(&name_color("#ship").normal().paint("#ship").to_string()), "{shown:?}");
}

#[test]
fn what_was_said_before_is_dim_and_what_comes_late_says_so() {
    let mut view = view();
    let Event::Message(said) = message("bob", "*", "hi") else { unreachable!() };
    let late = Event::Message(Box::new(Delivery { from_split: true, replayed: true, ..(*said).clone() }));
    assert_eq!(lines(&mut view, &late), ["01:00 bob to * (from the split): hi"]);
    let history = Event::Message(Box::new(Delivery { history: true, ..(*said).clone() }));
    assert_eq!(lines(&mut view, &history), ["01:00 bob to * (earlier): hi"]);
    let own = Delivery { history: true, from: "alice".to_owned(), to: "bob".to_owned(), ..*said };
    let own = Event::Message(Box::new(own));
    assert_eq!(lines(&mut view, &own), ["01:00 alice to bob (earlier): hi"]);
    view.color = true;
    let dim = Style::new().dimmed();
    assert_eq!(lines(&mut view, &history), [dim.paint("01:00 bob to *: hi").to_string()]);
}

#[test]
fn those_who_have_had_a_message_are_named_and_the_rest_is_counted() {
    let mut view = view();
    lines(&mut view, &Event::Sent { reference: 1, to: "#ship".to_owned(), text: "ahoy".to_owned() });
    let mut say = |names: &[&str], recipients| {
        let receipt = Receipt {
            reference: 1,
            state: State::Delivered.into(),
            nodes_holding: 2,
            nodes_known: 5,
            recipients,
            recipients_names: names.iter().map(ToString::to_string).collect(),
            ..Receipt::default()
        };
        assert!(lines(&mut view, &Event::Receipt(Box::new(receipt))).is_empty());
        view.tick(Instant::now() + Duration::from_secs(1))
    };
    assert_eq!(say(&["bob"], 1), ["  ✓ to #ship: delivered to bob, on 2 of 5 nodes"]);
    let four = say(&["bob", "carol", "dave", "erin"], 6);
    assert_eq!(four, ["  ✓ to #ship: delivered to bob, carol, dave and 3 more, on 2 of 5 nodes"]);
    assert_eq!(say(&[], 7), ["  ✓ to #ship: delivered to bob, carol, dave and 4 more, on 2 of 5 nodes"]);
}

#[test]
fn a_refused_name_is_explained() {
    let mut view = view();
    let mut refused = |why, retry_after_ms| {
        let reason = "too many passphrases were tried".to_owned();
        lines(&mut view, &Event::NameRefused { name: "alice".to_owned(), reason, why, retry_after_ms })
    };
    assert_eq!(refused(Why::PassphraseWanted, 0), ["* the name alice is claimed"]);
    assert_eq!(refused(Why::PassphraseWrong, 0), ["* that is not the passphrase of alice"]);
    assert_eq!(refused(Why::TooManyGuesses, 2_500), ["* too many passphrases were tried; waiting 2.5 s"]);
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
