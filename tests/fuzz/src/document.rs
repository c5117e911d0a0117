//! JSON documents as `serde_json` reads them, with what it leaves out by default: the order of keys, and keys
//! that come twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as an integer where it is one in range, and as a double.
    Number(Option<i64>, f64),
    /// A string.
    Str(String),
    /// An array.
    Array(Vec<Self>),
    /// An object.
    Object(Vec<(String, Self)>),
}

/// A value that is wanted, as the extractor reports it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Which path of the wanted ones.
    pub field: usize,
    /// Positions in the arrays of the path.
    pub indices: Vec<u32>,
    /// The value.
    pub what: What,
}

/// What a [`Found`] is.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A scalar.
    Scalar(Document),
    /// An object begins.
    Object,
    /// An array begins.
    Array,
    /// The object or array ends.
    End,
}

impl Document {
    /// Every value at one of the paths, each the keys to it (`[]`: every item), in document order.
    #[must_use]
    pub fn find(&self, paths: &[&str]) -> Vec<Found> {
        let paths: Vec<Vec<&str>> = paths.iter().map(|path| segments(path)).collect();
        let mut found = Vec::new();
        self.walk(&mut Vec::new(), &mut Vec::new(), &paths, &mut found);
        found
    }

    fn walk(
        &self,
        at: &mut Vec<String>,
        indices: &mut Vec<u32>,
        paths: &[Vec<&str>],
        found: &mut Vec<Found>,
    ) {
        let field = paths.iter().position(|path| path == at);
        let mut tell = |what, indices: &[u32]| {
            found.extend(field.map(|field| Found { field, indices: indices.to_vec(), what }));
        };
        match self {
            Self::Array(_) => tell(What::Array, indices),
            Self::Object(_) => tell(What::Object, indices),
            scalar => return tell(What::Scalar(scalar.clone()), indices),
        }
        if let Self::Array(items) = self {
            at.push("[]".to_owned());
            for (item, index) in items.iter().zip(0..) {
                indices.push(index);
                item.walk(at, indices, paths, found);
                indices.pop();
            }
            at.pop();
        }
        if let Self::Object(members) = self {
            for (key, value) in members {
                // A key that is written like an item is none.
                at.push(if key == "[]" { "a key".to_owned() } else { key.clone() });
                value.walk(at, indices, paths, found);
                at.pop();
            }
        }
        found.extend(field.map(|field| Found { field, indices: indices.clone(), what: What::End }));
    }
}

/// `a[].b` as `a`, `[]`, `b`.
fn segments(path: &str) -> Vec<&str> {
    let mut segments = Vec::new();
    for part in path.split('.') {
        let key = part.trim_end_matches("[]");
        segments.extend((!key.is_empty()).then_some(key));
        segments.extend(std::iter::repeat_n("[]", (part.len() - key.len()) / 2));
    }
    segments
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Read)
    }
}

struct Read;

impl<'de> Visitor<'de> for Read {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Document, E> {
        Ok(Document::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Document, E> {
        Ok(Document::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Document, E> {
        Ok(Document::Number(Some(value), value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Document, E> {
        Ok(Document::Number(value.try_into().ok(), value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Document, E> {
        let is_integer = value.fract() == 0.0 && value.abs() <= (1_u64 << 53) as f64;
        Ok(Document::Number(is_integer.then_some(value as i64), value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Document, E> {
        Ok(Document::Str(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Document, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Document::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Document, A::Error> {
        let mut all = Vec::new();
        while let Some(member) = members.next_entry()? {
            all.push(member);
        }
        Ok(Document::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_values_are_found_in_document_order() {
        let document: Document =
            serde_json::from_str(r#"{"a":[{"b":1},{"b":"x"}],"c":{},"c":null}"#).unwrap();
        let found = document.find(&["c", "a[].b"]);
        let found: Vec<_> =
            found.iter().map(|found| (found.field, &found.indices[..], &found.what)).collect();
        let scalar = What::Scalar;
        assert_eq!(
            found,
            [
                (1, &[0][..], &scalar(Document::Number(Some(1), 1.0))),
                (1, &[1], &scalar(Document::Str("x".to_owned()))),
                (0, &[], &What::Object),
                (0, &[], &What::End),
                (0, &[], &scalar(Document::Null)),
            ]
        );
    }
}
