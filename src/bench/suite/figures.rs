//! Medians, ranges and ratios of what was measured several times.

/// What one thing measured, once per repetition; `None` where a run gave nothing.
pub type Samples = Vec<Option<f64>>;

/// The middle of some values and their ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    /// Of at least one value.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), min, max })
    }

    /// Of what there is.
    #[must_use]
    pub fn of_samples(samples: &[Option<f64>]) -> Option<Self> {
        Self::of(&samples.iter().flatten().copied().collect::<Vec<_>>())
    }

    /// The ratio of the medians of two things that were measured in turn, and the ends of the ratios of each repetition.
    #[must_use]
    pub fn ratio(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Option<Self> {
        let of_each: Vec<f64> =
            ours.iter().zip(theirs).filter_map(|(ours, theirs)| Some((*ours)? / (*theirs)?)).collect();
        let median = Self::of_samples(ours)?.median / Self::of_samples(theirs)?.median;
        let ends = Self::of(&of_each)?;
        median.is_finite().then_some(Self { median, ..ends })
    }

    /// As people read it, each number by `number`.
    #[must_use]
    pub fn text(&self, number: impl Fn(f64) -> String) -> String {
        let (median, min, max) = (number(self.median), number(self.min), number(self.max));
        if min == max { median } else { format!("{median} ({min} – {max})") }
    }
}

/// Three digits that count (whole numbers as they are), with thousands set apart by a narrow space.
#[must_use]
pub fn readable(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || size.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) =
        text.split_once('.').map_or((text.as_str(), String::new()), |(whole, rest)| (whole, format!(".{rest}")));
    let digits = whole.len();
    let mut out = String::new();
    for (at, digit) in whole.chars().enumerate() {
        let is_boundary = at > 0 && (digits - at).is_multiple_of(3) && !out.ends_with('-');
        if is_boundary {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out + &rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_can_be_read() {
        assert_eq!(
            [0.123, 3.0, 12.34, 999.6, 1_234_567.0].map(readable),
            ["0.12", "3", "12.3", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
        );
        let summary = Summary { median: 2.0, min: 1.0, max: 3.0 };
        assert_eq!(summary.text(|value| format!("{value:.0}")), "2 (1 – 3)");
    }

    #[test]
    fn ratios_are_of_medians_and_range_over_the_repetitions() {
        let ratio = Summary::ratio(&[Some(2.0), Some(4.0), Some(9.0)], &[Some(1.0), Some(4.0), Some(3.0)]);
        assert_eq!(ratio, Some(Summary { median: 4.0 / 3.0, min: 1.0, max: 3.0 }));
        assert_eq!(Summary::ratio(&[Some(2.0), None], &[None, Some(1.0)]), None);
        assert_eq!(Summary::of(&[f64::NAN]), None);
    }

    proptest! {
        #[test]
        fn a_median_is_in_the_middle(values in proptest::collection::vec(-1e6..1e6_f64, 1..20)) {
            let summary = Summary::of(&values).unwrap();
            let below = values.iter().filter(|value| **value < summary.median).count();
            let above = values.iter().filter(|value| **value > summary.median).count();
            prop_assert!(below <= values.len() / 2 && above <= values.len() / 2);
            prop_assert!(summary.min <= summary.median && summary.median <= summary.max);
        }
    }
}
