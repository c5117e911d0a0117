//! The numbers in a text.

use std::collections::BTreeSet;

use crate::recorder::GAP;

/// Every natural number that stands in some bodies.
#[derive(Debug)]
pub struct Numbers(BTreeSet<i64>);

/// Of more numbers, sums are not looked through.
const FEW: usize = 300;

impl Numbers {
    /// The numbers in these bodies, however they are written. One that a gap touches is none: part of it may be
    /// missing.
    pub fn of<'a>(bodies: impl Iterator<Item = &'a [u8]>) -> Self {
        Self(bodies.flat_map(numbers).filter(|&number| number >= 0).collect())
    }

    /// Whether a count stands there, or is the sum of two or three that do: input and what was read from or
    /// written to a cache, by its age. Or it is the difference of two: what is left of a total.
    #[must_use]
    pub fn explain(&self, count: i64) -> bool {
        let Self(all) = self;
        let one = |count| all.contains(&count);
        let two = |count: i64| all.iter().any(|n| one(count.saturating_sub(*n)));
        let left = |count: i64| all.iter().any(|n| one(count.saturating_add(*n)));
        one(count)
            || all.len() > FEW
            || left(count)
            || two(count)
            || all.iter().any(|n| two(count.saturating_sub(*n)))
    }
}

fn numbers(body: &[u8]) -> impl Iterator<Item = i64> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + body.get(at..)?.iter().position(is_digit)?;
        let len = body[start..].iter().position(|byte| !is_digit(byte)).unwrap_or(body.len() - start);
        at = start + len;
        let touches_gap = body[..start].ends_with(GAP) || body[at..].starts_with(GAP);
        let text = str::from_utf8(&body[start..at]).unwrap_or_default();
        Some((!touches_gap).then(|| integer(text)).flatten())
    })
    .flatten()
}

fn integer(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| {
        let value: f64 = text.parse().ok()?;
        (value.fract() == 0.0).then_some(value as i64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_explained_by_what_is_there_and_nothing_else() {
        let body = [&br#"{"a":12,"b":"7","c":1.5e2,"d":-3,"e":4"#[..], GAP, b"5}"].concat();
        let numbers = Numbers::of([&body[..]].into_iter());
        for (count, explained) in
            [(12, true), (7, true), (150, true), (19, true), (169, true), (4, false), (45, false)]
        {
            assert_eq!(numbers.explain(count), explained, "{count}");
        }
    }
}
