use proptest::prelude::*;

use super::*;

const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn the_recommendation_s_example_is_read() {
    let parent = parse_traceparent(GOOD).unwrap();
    assert_eq!(TraceId(parent.trace_id).to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(parent.span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert!(parent.sampled);
}

#[test]
fn only_the_lowest_flag_says_sampled() {
    for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("03", true), ("ff", true)] {
        let text = format!("{}{flags}", &GOOD[..53]);
        assert_eq!(parse_traceparent(&text).unwrap().sampled, sampled, "{text}");
    }
}

#[test]
fn a_later_version_may_say_more() {
    let later = format!("cc{}", &GOOD[2..]);
    assert_eq!(parse_traceparent(&later), parse_traceparent(GOOD));
    assert_eq!(parse_traceparent(&format!("{later}-what-the-future-holds")), parse_traceparent(GOOD));
    assert_eq!(parse_traceparent(&format!("{later}.what")), None);
}

#[test]
fn what_the_recommendation_forbids_is_no_parent() {
    for text in [
        "",
        "00",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
    ] {
        assert_eq!(parse_traceparent(text), None, "{text:?}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(trace_id in any::<[u8; 16]>(), span_id in any::<[u8; 8]>()) {
        prop_assume!(trace_id != [0; 16] && span_id != [0; 8]);
        let text = format_traceparent(&Trace { trace_id, span_id });
        prop_assert_eq!(text.len(), TRACEPARENT_BYTES);
        prop_assert_eq!(parse_traceparent(&text), Some(RemoteParent { trace_id, span_id, sampled: true }));
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = parse_traceparent(&text);
    }

    #[test]
    fn one_changed_byte_is_refused_or_says_something_else(at in 0..TRACEPARENT_BYTES, byte in b' '..=b'~') {
        let mut text = GOOD.as_bytes().to_vec();
        prop_assume!(text[at] != byte);
        text[at] = byte;
        let parsed = parse_traceparent(std::str::from_utf8(&text).unwrap());
        let hexadecimal = byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let dash = [2, 35, 52].contains(&at);
        prop_assert_eq!(parsed.is_some(), hexadecimal && !dash);
    }
}
