//! Recorded reports, to be made again or later.

use super::{
    schema::ESCAPED,
    value::{MAX_NUMBER, Number, Str, Value},
};

/// Reports in the order in which they were made. The text of their values is kept elsewhere.
#[derive(Debug)]
pub(super) struct Reports<F> {
    list: Vec<Report<F>>,
    indices: Vec<u32>,
}

#[derive(Debug)]
struct Report<F> {
    field: F,
    /// The end of its indices in `Reports::indices`, which begin at the end of those of the report before.
    indices_end: usize,
    value: KeptValue,
}

/// A value whose text is a range of a buffer.
#[derive(Clone, Copy, Debug)]
enum KeptValue {
    Null,
    Bool(bool),
    Object,
    Array,
    End,
    Number { from: usize, to: usize },
    Str { from: usize, to: usize, cap: u16, cut: bool },
}

impl<F> Default for Reports<F> {
    fn default() -> Self {
        Self { list: Vec::new(), indices: Vec::new() }
    }
}

impl<F: Copy> Reports<F> {
    /// Records a report of a value whose text, if it has one, begins at `from` of the buffer.
    pub(super) fn push(&mut self, field: F, indices: &[u32], value: &Value<'_>, from: usize) {
        self.indices.extend_from_slice(indices);
        let value = match value {
            Value::Null => KeptValue::Null,
            Value::Bool(value) => KeptValue::Bool(*value),
            Value::Object => KeptValue::Object,
            Value::Array => KeptValue::Array,
            Value::End => KeptValue::End,
            Value::Number(Number { raw }) => KeptValue::Number { from, to: from + raw.len() },
            Value::Str(Str { raw, cap, cut, .. }) => {
                KeptValue::Str { from, to: from + raw.len(), cap: *cap, cut: *cut }
            }
        };
        self.list.push(Report { field, indices_end: self.indices.len(), value });
    }

    /// Makes all reports, with the buffer `text`.
    #[inline]
    pub(super) fn make(&self, text: &[u8], visit: &mut impl FnMut(F, &[u32], Value<'_>)) {
        let mut from = 0;
        for report in &self.list {
            visit(report.field, &self.indices[from..report.indices_end], report.value.of(text));
            from = report.indices_end;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Drops all reports behind the first `count`.
    pub(super) fn truncate(&mut self, count: usize) {
        self.list.truncate(count);
        self.indices.truncate(self.list.last().map_or(0, |report| report.indices_end));
    }
}

impl KeptValue {
    #[inline]
    fn of(self, text: &[u8]) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Object => Value::Object,
            Self::Array => Value::Array,
            Self::End => Value::End,
            Self::Number { from, to } => Value::Number(Number { raw: &text[from..to] }),
            Self::Str { from, to, cap, cut } => {
                Value::Str(Str { raw: &text[from..to], cap, cut, plain: false })
            }
        }
    }
}

/// Most deferred reports.
const MOST: usize = 64;

/// Most bytes of the values of deferred reports.
const LONGEST: usize = 4 << 10;

/// Reports that are made once the end of the document proves them.
#[derive(Debug)]
pub(super) struct DeferredReports<F> {
    reports: Reports<F>,
    text: Vec<u8>,
    full: bool,
}

impl<F> Default for DeferredReports<F> {
    fn default() -> Self {
        Self { reports: Reports::default(), text: Vec::new(), full: false }
    }
}

impl<F: Copy> DeferredReports<F> {
    /// Takes a report. After the first one for which there is no room, no more are taken, so that no object ends
    /// without its fields.
    pub(super) fn take(&mut self, field: F, indices: &[u32], value: Value<'_>) {
        // What is over a value's limit is never read.
        let value = match value {
            Value::Number(Number { raw }) => {
                Value::Number(Number { raw: &raw[..raw.len().min(MAX_NUMBER + 1)] })
            }
            Value::Str(Str { raw, cap, cut, plain }) => {
                let most = raw.len().min(usize::from(cap) * ESCAPED);
                Value::Str(Str { raw: &raw[..most], cap, cut: cut || most < raw.len(), plain })
            }
            value => value,
        };
        let text = value.text().unwrap_or_default();
        self.full |= self.reports.len() == MOST || self.text.len() + text.len() > LONGEST;
        if !self.full {
            self.reports.push(field, indices, &value, self.text.len());
            self.text.extend_from_slice(text);
        }
    }

    /// The reports were wrong.
    pub(super) fn drop_all(&mut self) {
        self.reports.truncate(0);
        self.text.clear();
        self.full = false;
    }

    /// The reports are proven: makes them, once.
    pub(super) fn make(&mut self, visit: &mut impl FnMut(F, &[u32], Value<'_>)) {
        self.reports.make(&self.text, visit);
        self.drop_all();
    }
}
