use super::*;

struct Watch {
    fates: Fates,
    begin: Instant,
}

impl Watch {
    fn new(to: &str) -> Self {
        let (mut fates, begin) = (Fates::default(), Instant::now());
        fates.sent(1, to, "hello", begin);
        Self { fates, begin }
    }

    fn at(&self, ms: u64) -> Instant {
        self.begin + Duration::from_millis(ms)
    }

    fn receipt(&mut self, ms: u64, state: State, holding: u32, recipients: u32) -> Option<Stage> {
        let receipt = Receipt {
            reference: 1,
            state: state.into(),
            nodes_holding: holding,
            nodes_known: 5,
            recipients,
            ..Receipt::default()
        };
        self.fates.receipt(&receipt, self.at(ms)).map(|verdict| verdict.fate.stage)
    }

    fn tick(&mut self, ms: u64) -> Vec<(Stage, u32, u32)> {
        let verdicts = self.fates.tick(self.at(ms));
        verdicts
            .into_iter()
            .map(|verdict| (verdict.fate.stage, verdict.fate.nodes_holding, verdict.fate.recipients))
            .collect()
    }
}

#[test]
fn a_delivered_message_is_told_once_and_at_once() {
    let mut watch = Watch::new("bob");
    assert_eq!(watch.receipt(1, State::Accepted, 1, 0), None);
    assert_eq!(watch.receipt(3, State::Delivered, 1, 1), Some(Stage::Delivered));
    assert_eq!(watch.receipt(5, State::Replicated, 5, 1), None);
    assert_eq!(watch.tick(10_000), []);
    assert_eq!(watch.fates.due(), None);
    assert!(!watch.fates.has_failures());
}

#[test]
fn a_message_that_stays_behind_is_told_as_it_stands_and_again_when_it_arrives() {
    let mut watch = Watch::new("bob");
    watch.receipt(1, State::Accepted, 1, 0);
    assert_eq!(watch.receipt(50, State::Replicated, 3, 0), None);
    assert_eq!(watch.fates.due(), Some(watch.at(450)));
    assert_eq!(watch.tick(449), []);
    assert_eq!(watch.tick(450), [(Stage::Accepted, 3, 0)]);
    assert_eq!(watch.tick(5_000), []);
    assert_eq!(watch.receipt(9_000, State::Delivered, 5, 1), Some(Stage::Delivered));
}

#[test]
fn a_message_to_everyone_is_told_when_its_news_pause() {
    let mut watch = Watch::new("*");
    watch.receipt(1, State::Accepted, 1, 0);
    assert_eq!(watch.receipt(2, State::Delivered, 1, 1), None);
    assert_eq!(watch.receipt(300, State::Delivered, 1, 4), None);
    assert_eq!(watch.receipt(310, State::Replicated, 5, 4), None);
    assert_eq!(watch.tick(700), []);
    assert_eq!(watch.tick(710), [(Stage::Delivered, 5, 4)]);
    // The same again is no news; somebody on the other side of a cut is.
    assert_eq!(watch.receipt(800, State::Replicated, 5, 4), None);
    assert_eq!(watch.tick(2_000), []);
    watch.receipt(5_000, State::Delivered, 5, 5);
    assert_eq!(watch.tick(5_400), [(Stage::Delivered, 5, 5)]);
}

#[test]
fn those_who_have_had_it_are_named() {
    let mut watch = Watch::new("#ship");
    let mut receive = |names: &[&str]| {
        let receipt = Receipt {
            reference: 1,
            state: State::Delivered.into(),
            recipients: names.len() as u32,
            recipients_names: names.iter().map(ToString::to_string).collect(),
            ..Receipt::default()
        };
        watch.fates.receipt(&receipt, watch.begin)
    };
    receive(&["bob"]);
    receive(&["bob", "carol"]);
    receive(&[]);
    let verdicts = watch.fates.tick(watch.at(400));
    assert_eq!((verdicts.len(), &verdicts[0].fate.names[..]), (1, &["bob".to_owned(), "carol".to_owned()][..]));
}

#[test]
fn refusals_and_kept_messages_are_told_at_once() {
    for (state, stage) in
        [(State::Refused, Stage::Refused), (State::Kept, Stage::Kept), (State::Undelivered, Stage::Undelivered)]
    {
        let mut watch = Watch::new("bob");
        assert_eq!(watch.receipt(1, state, 1, 0), Some(stage));
        assert_eq!(watch.fates.has_failures(), stage != Stage::Kept);
    }
    let mut watch = Watch::new("bob");
    watch.receipt(1, State::Kept, 1, 0);
    assert_eq!(watch.receipt(9_000, State::Delivered, 5, 1), Some(Stage::Delivered));
    // Whoever has not come back in time may come later.
    let mut watch = Watch::new("bob");
    watch.receipt(1, State::Kept, 1, 0);
    assert_eq!(watch.receipt(30_000, State::Undelivered, 1, 0), Some(Stage::Undelivered));
    assert_eq!(watch.receipt(60_000, State::Delivered, 5, 1), Some(Stage::Delivered));
}

#[test]
fn silence_is_told_and_a_late_answer_still_counts() {
    let mut watch = Watch::new("bob");
    assert_eq!(watch.fates.unanswered(), 1);
    assert_eq!(watch.tick(3_000), [(Stage::Sent, 0, 0)]);
    watch.receipt(4_000, State::Accepted, 1, 0);
    assert_eq!(watch.fates.unanswered(), 0);
    assert_eq!(watch.tick(4_400), [(Stage::Accepted, 1, 0)]);
}

#[test]
fn a_lost_connection_leaves_no_fate_untold() {
    let mut watch = Watch::new("bob");
    let verdict = watch.fates.not_answered(1, true, watch.at(5));
    assert_eq!(verdict.map(|verdict| verdict.fate.stage), Some(Stage::Unknown));
    assert_eq!(watch.fates.unanswered(), 0);
    assert!(watch.fates.has_failures());
    assert_eq!(watch.tick(10_000), [], "once");
    // It was taken after all, as another node knows later.
    assert_eq!(watch.receipt(20_000, State::Delivered, 2, 1), Some(Stage::Delivered));
}

#[test]
fn only_older_messages_need_their_text_to_be_recognised() {
    let mut watch = Watch::new("bob");
    watch.fates.sent(2, "bob", "second", watch.at(1));
    let older = |watch: &mut Watch, reference| {
        let receipt = Receipt { reference, state: State::Delivered.into(), ..Receipt::default() };
        watch.fates.receipt(&receipt, watch.at(2)).is_some_and(|verdict| verdict.is_older)
    };
    assert!(older(&mut watch, 1));
    assert!(!older(&mut watch, 2));
    let unknown = Receipt { reference: 99, state: State::Delivered.into(), ..Receipt::default() };
    assert_eq!(watch.fates.receipt(&unknown, watch.at(3)), None);
}
