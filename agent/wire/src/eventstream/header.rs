//! Header blocks of event stream messages.

/// The headers of a message, in wire order. Borrowed from the parser's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    block: &'a [u8],
    /// False when headers are missing, over the bound or invalid; those before them are here.
    pub complete: bool,
}

/// The value of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Types 0 (true) and 1 (false).
    Bool(bool),
    /// Type 2.
    Byte(i8),
    /// Type 3.
    Short(i16),
    /// Type 4.
    Int(i32),
    /// Type 5.
    Long(i64),
    /// Type 6.
    Bytes(&'a [u8]),
    /// Type 7: text in UTF-8, which is not checked.
    Text(&'a [u8]),
    /// Type 8: milliseconds since 1970.
    Timestamp(i64),
    /// Type 9.
    Uuid([u8; 16]),
}

impl<'a> Headers<'a> {
    /// Headers of a block, or of the first part of one if it is not `whole`.
    pub(super) fn new(block: &'a [u8], whole: bool) -> Self {
        let mut headers = Self { block, complete: whole };
        if whole {
            let mut rest = block;
            while next(&mut rest).is_some() {}
            headers.complete = rest.is_empty();
        }
        headers
    }

    /// Every header as (name, value).
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> + use<'a> {
        let mut rest = self.block;
        std::iter::from_fn(move || next(&mut rest))
    }

    /// The first value of a header, by its exact name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.iter().find(|(n, _)| *n == name.as_bytes()).map(|(_, value)| value)
    }

    /// The first value of a header if it is text, as `:event-type`, `:message-type` and `:exception-type` are.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a [u8]> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Takes the next header off the block, unless it is invalid or incomplete.
fn next<'a>(block: &mut &'a [u8]) -> Option<(&'a [u8], Value<'a>)> {
    let (&length, rest) = block.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(length))?;
    let (&kind, mut rest) = rest.split_first()?;
    let value = match kind {
        0 => Value::Bool(true),
        1 => Value::Bool(false),
        2 => Value::Byte(i8::from_be_bytes(array(&mut rest)?)),
        3 => Value::Short(i16::from_be_bytes(array(&mut rest)?)),
        4 => Value::Int(i32::from_be_bytes(array(&mut rest)?)),
        5 => Value::Long(i64::from_be_bytes(array(&mut rest)?)),
        6 => Value::Bytes(sized(&mut rest)?),
        7 => Value::Text(sized(&mut rest)?),
        8 => Value::Timestamp(i64::from_be_bytes(array(&mut rest)?)),
        9 => Value::Uuid(array(&mut rest)?),
        _ => return None,
    };
    *block = rest;
    Some((name, value))
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (array, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*array)
}

fn sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u16::from_be_bytes(array(rest)?);
    let (bytes, after) = rest.split_at_checked(usize::from(length))?;
    *rest = after;
    Some(bytes)
}
