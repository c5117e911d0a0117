//! Reads wanted fields of a Protocol Buffers message (<https://protobuf.dev/programming-guides/encoding>).
//!
//! A message without its `.proto` says the numbers of its fields and how long they are, not what they mean: a
//! [`Schema`] names the wanted ones. Values are those of [`crate::json`], so that one visitor serves both. A message that
//! is cut is read up to its last whole field.

use crate::json::{Number, Str, Value, WantedField};

/// A compiled set of wanted fields: paths of field numbers, as `9.2`.
#[derive(Debug)]
pub struct Schema<F> {
    nodes: Vec<Node<F>>,
}

#[derive(Debug)]
struct Node<F> {
    want: Option<F>,
    fields: Vec<(u32, usize)>,
}

impl<F: Copy> Schema<F> {
    /// Compiles paths.
    ///
    /// # Panics
    /// When a path is no list of numbers: schemas are constants of the program.
    #[must_use]
    pub fn new(wants: &[WantedField<F>]) -> Self {
        let mut nodes = vec![Node { want: None, fields: Vec::new() }];
        for want in wants {
            let mut at = 0;
            for number in want.path.split('.') {
                let number: u32 = number.parse().expect("a path is numbers and dots");
                let known =
                    nodes[at].fields.iter().find(|(known, _)| *known == number).map(|(_, node)| *node);
                at = known.unwrap_or_else(|| {
                    nodes.push(Node { want: None, fields: Vec::new() });
                    let node = nodes.len() - 1;
                    nodes[at].fields.push((number, node));
                    node
                });
            }
            nodes[at].want = Some(want.field);
        }
        Self { nodes }
    }

    /// Reads one message. Calls `visit` with each wanted field in the order of the bytes: integers, floating-point numbers
    /// and enums as numbers, text as strings, messages with their begin and end. Returns whether all of it could be read.
    pub fn read(&self, message: &[u8], mut visit: impl FnMut(F, Value<'_>)) -> bool {
        self.fields(0, message, &mut visit)
    }

    fn fields(&self, node: usize, mut rest: &[u8], visit: &mut impl FnMut(F, Value<'_>)) -> bool {
        while !rest.is_empty() {
            let Some(tag) = varint(&mut rest) else { return false };
            let wanted = u32::try_from(tag >> 3)
                .ok()
                .and_then(|number| self.nodes[node].fields.iter().find(|(known, _)| *known == number))
                .map(|(_, child)| (*child, self.nodes[*child].want));
            let whole = match tag & 7 {
                0 => varint(&mut rest).map(|value| {
                    if let Some((_, Some(field))) = wanted {
                        // Negative numbers are sent as two's complement of 64 bits.
                        give(field, format_args!("{}", value as i64), visit);
                    }
                }),
                1 => take::<8>(&mut rest).map(|bytes| {
                    if let Some((_, Some(field))) = wanted {
                        give(field, format_args!("{:?}", f64::from_le_bytes(bytes)), visit);
                    }
                }),
                5 => take::<4>(&mut rest).map(|bytes| {
                    if let Some((_, Some(field))) = wanted {
                        give(field, format_args!("{:?}", f32::from_le_bytes(bytes)), visit);
                    }
                }),
                2 => sized(&mut rest).and_then(|(bytes, whole)| {
                    let inside = self.sized(wanted, bytes, whole, visit);
                    (whole && inside).then_some(())
                }),
                _ => None,
            };
            if whole.is_none() {
                return false;
            }
        }
        true
    }

    /// A field with a length: a message where fields of it are wanted, else text or bytes.
    fn sized(
        &self,
        wanted: Option<(usize, Option<F>)>,
        bytes: &[u8],
        whole: bool,
        visit: &mut impl FnMut(F, Value<'_>),
    ) -> bool {
        match wanted {
            Some((child, want)) if !self.nodes[child].fields.is_empty() => {
                if let Some(field) = want {
                    visit(field, Value::Object);
                }
                let inside = self.fields(child, bytes, visit);
                if let Some(field) = want.filter(|_| whole && inside) {
                    visit(field, Value::End);
                }
                inside
            }
            Some((_, Some(field))) if whole => {
                visit(field, Value::Str(Str::plain(bytes)));
                true
            }
            _ => true,
        }
    }
}

/// Longest number as text: a double has 17 digits, a point and an exponent.
const NUMBER: usize = 40;

/// A number as the text that JSON has for it.
fn give<F>(field: F, number: std::fmt::Arguments<'_>, visit: &mut impl FnMut(F, Value<'_>)) {
    use std::io::Write as _;
    let mut text = [0; NUMBER];
    let mut rest = &mut text[..];
    // What does not fit is no number that means anything here.
    if rest.write_fmt(number).is_ok() {
        let left = rest.len();
        visit(field, Value::Number(Number::new(&text[..NUMBER - left])));
    }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (index, &byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            *rest = &rest[index + 1..];
            return Some(value);
        }
    }
    None
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

/// Bytes with their length before them, and whether all of them are there.
fn sized<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], bool)> {
    let len = usize::try_from(varint(rest)?).ok()?;
    let (bytes, after) = rest.split_at(len.min(rest.len()));
    *rest = after;
    Some((bytes, bytes.len() == len))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn schema() -> Schema<&'static str> {
        Schema::new(&[
            WantedField::new("1", "name"),
            WantedField::new("2", "inner"),
            WantedField::new("2.1", "int"),
            WantedField::new("2.3", "double"),
            WantedField::new("2.4", "float"),
        ])
    }

    fn read(message: &[u8]) -> (Vec<String>, bool) {
        let mut found = Vec::new();
        let whole = schema().read(message, |field, value| {
            found.push(match value {
                Value::Str(text) => format!("{field}={}", text.decode()),
                Value::Number(_) if field == "int" => format!("{field}={:?}", value.as_i64()),
                Value::Number(_) => format!("{field}={:?}", value.as_f64()),
                other => format!("{field} {other:?}"),
            });
        });
        (found, whole)
    }

    /// Fields 1 ("ab"), 5 (skipped), 2 with an integer, a skipped text, a double and a float.
    const MESSAGE: &[u8] = b"\x0a\x02ab\x2a\x03xyz\x12\x14\x08\x96\x01\x12\x01q\x19\x00\x00\x00\x00\x00\x00\xe0\x3f\x25\x00\x00\x20\x40";

    #[test]
    fn wanted_fields_are_given_in_order() {
        let (found, whole) = read(MESSAGE);
        let expected =
            ["name=ab", "inner Object", "int=Some(150)", "double=Some(0.5)", "float=Some(2.5)", "inner End"];
        assert_eq!((found, whole), (expected.map(str::to_owned).to_vec(), true));
        let negative = b"\x12\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        assert_eq!(read(negative).0[1], "int=Some(-1)");
    }

    #[test]
    fn a_message_that_is_cut_gives_no_other_fields_and_says_so() {
        let (all, _) = read(MESSAGE);
        for len in 0..MESSAGE.len() {
            let (found, _) = read(&MESSAGE[..len]);
            assert!(all.starts_with(&found), "{len}: {found:?}");
        }
        assert!(!read(&MESSAGE[..3]).1 && !read(&MESSAGE[..MESSAGE.len() - 1]).1);
        // A group, and a number that never ends.
        assert!(!read(b"\x0b").1 && !read(&[0x80; 11]).1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in vec(any::<u8>(), 0..200)) {
            read(&bytes);
        }
    }
}
