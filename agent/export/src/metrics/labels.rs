//! What tells series apart.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, Hasher},
    sync::{Arc, LazyLock},
};

use foldhash::fast::RandomState;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};

/// The value of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Label<'a> {
    Text(&'a str),
    Number(i64),
}

/// Labels of a measurement, with what they are found by.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels<'a> {
    pairs: Vec<(&'static str, Label<'a>)>,
    hash: u64,
}

impl<'a> Labels<'a> {
    /// Adds a label. The order has no meaning.
    pub(super) fn add(&mut self, key: &'static str, label: Label<'a>) {
        static STATE: LazyLock<RandomState> = LazyLock::new(RandomState::default);
        self.hash = self.hash.wrapping_add(STATE.hash_one((key, label)));
        self.pairs.push((key, label));
    }

    /// Adds a label, unless it is empty.
    pub(super) fn add_text(&mut self, key: &'static str, text: &'a str) {
        if !text.is_empty() {
            self.add(key, Label::Text(text));
        }
    }

    /// The same with one more.
    pub(super) fn with(&self, key: &'static str, text: &'a str) -> Self {
        let mut more = self.clone();
        more.add_text(key, text);
        more
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn keep(&self) -> Kept {
        self.pairs
            .iter()
            .map(|(key, label)| match label {
                Label::Text(text) => (*key, KeptLabel::Text((*text).into())),
                Label::Number(number) => (*key, KeptLabel::Number(*number)),
            })
            .collect()
    }

    /// Whether they are those that were kept.
    pub(super) fn are(&self, kept: &Kept) -> bool {
        self.pairs.len() == kept.len()
            && self.pairs.iter().zip(kept.iter()).all(|((key, label), (known, value))| {
                key == known
                    && match (label, value) {
                        (Label::Text(text), KeptLabel::Text(known)) => *text == &**known,
                        (Label::Number(number), KeptLabel::Number(known)) => number == known,
                        _ => false,
                    }
            })
    }
}

/// A map by what is a hash already.
pub(super) type ByHash<T> = std::collections::HashMap<u64, T, BuildHasherDefault<Hashed>>;

/// Takes a hash as it is.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Labels of a series, shared by the series of several metrics.
pub(super) type Kept = Arc<[(&'static str, KeptLabel)]>;

#[derive(Debug)]
pub(super) enum KeptLabel {
    Text(Box<str>),
    Number(i64),
    Bool(bool),
}

/// The labels of the series in which everything is counted that is beyond the limit.
pub(super) fn overflow() -> Kept {
    Arc::new([("otel.metric.overflow", KeptLabel::Bool(true))])
}

pub(super) fn otlp(kept: &Kept) -> Vec<KeyValue> {
    let pair = |(key, label): &(&'static str, KeptLabel)| KeyValue {
        key: (*key).to_owned(),
        value: Some(AnyValue {
            value: Some(match label {
                KeptLabel::Text(text) => any_value::Value::StringValue(text.to_string()),
                KeptLabel::Number(number) => any_value::Value::IntValue(*number),
                KeptLabel::Bool(value) => any_value::Value::BoolValue(*value),
            }),
        }),
        ..KeyValue::default()
    };
    kept.iter().map(pair).collect()
}
