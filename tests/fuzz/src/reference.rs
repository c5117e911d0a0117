//! What a parser must say of a body that has no gap, done the obvious way: all of it at once.

/// Server-sent events as (name, data, id), as the HTML standard interprets a stream (§9.2.6), with what the parser has
/// besides: a data line that begins JSON after one that ended an object acts as if a blank line were before it, and a field
/// `error` with an object is the data of an event of that name.
#[must_use]
pub fn events(stream: &[u8]) -> Vec<[Vec<u8>; 3]> {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let (mut events, mut name, mut id) = (Vec::new(), Vec::new(), Vec::new());
    let mut data: Option<Vec<u8>> = None;
    let (mut object, mut ended) = (false, false);
    for line in lines_of_any_end(stream) {
        if line.is_empty() {
            let name = std::mem::take(&mut name);
            events.extend(data.take().map(|data| [name, data, id.clone()]));
            continue;
        }
        let (field, value) = match line.iter().position(|&byte| byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => name = value.to_vec(),
            b"id" if !value.contains(&0) => id = value.to_vec(),
            b"error" if data.is_none() && name.is_empty() && value.starts_with(b"{") => {
                name = b"error".to_vec();
                (object, ended) = (true, value.ends_with(b"}"));
                data = Some(value.to_vec());
            }
            b"data" => {
                let begins = value.starts_with(b"{") || value.starts_with(b"[");
                if let Some(data) = data.take_if(|_| object && ended && begins) {
                    events.push([std::mem::take(&mut name), data, id.clone()]);
                }
                match &mut data {
                    Some(data) => {
                        data.push(b'\n');
                        data.extend_from_slice(value);
                        ended = if value.is_empty() { ended } else { value.ends_with(b"}") };
                    }
                    None => {
                        (object, ended) = (value.starts_with(b"{"), value.ends_with(b"}"));
                        data = Some(value.to_vec());
                    }
                }
            }
            _ => {}
        }
    }
    // The beginning of a line is enough to know that another event begins.
    let last = stream
        .iter()
        .rposition(|byte| matches!(byte, b'\n' | b'\r'))
        .map_or(stream, |end| &stream[end + 1..]);
    let value = last.strip_prefix(b"data:").map(|value| value.strip_prefix(b" ").unwrap_or(value));
    let begins = value.is_some_and(|value| value.starts_with(b"{") || value.starts_with(b"["));
    if object && ended && begins && last.len() >= b"error: {".len() {
        events.extend(data.take().map(|data| [name, data, id]));
    }
    events
}

/// Lines that have an end: LF, CR or both.
fn lines_of_any_end(text: &[u8]) -> Vec<&[u8]> {
    let (mut lines, mut rest) = (Vec::new(), text);
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n' || byte == b'\r') {
        lines.push(&rest[..end]);
        rest = &rest[end..];
        rest = rest.strip_prefix(b"\r\n").unwrap_or_else(|| &rest[1..]);
    }
    lines
}

/// The lines of a body that are not blank (JSON Lines §2).
#[must_use]
pub fn lines(body: &[u8]) -> Vec<Vec<u8>> {
    body.split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.trim_ascii().is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

/// Base64 with padding (RFC 4648 §4).
#[must_use]
pub fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::new();
    for group in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=group.len()].copy_from_slice(group);
        let word = u32::from_be_bytes(word);
        let digits = [18, 12, 6, 0].map(|shift| DIGITS[(word >> shift & 63) as usize]);
        text.extend(&digits[..=group.len()]);
        text.extend(std::iter::repeat_n(b'=', 3 - group.len()));
    }
    text
}

/// The whole messages that one side of a WebSocket sends until it closes or breaks a rule, without compression
/// (RFC 6455 §5).
#[must_use]
pub fn websocket(said: &[u8]) -> Vec<Vec<u8>> {
    let (mut messages, mut message, mut rest) = (Vec::new(), None::<Vec<u8>>, said);
    while let Some((first, payload, after)) = websocket_frame(rest) {
        rest = after;
        match (first & 0x7f, &mut message) {
            (9 | 10, _) if first & 0x80 != 0 && payload.len() <= 125 => continue,
            (0, Some(begun)) => begun.extend(payload),
            (1 | 2, None) => message = Some(payload),
            _ => break,
        }
        if first & 0x80 != 0 {
            messages.extend(message.take());
        }
    }
    messages
}

/// The first byte of a frame that is whole, its payload without the mask, and what follows it.
fn websocket_frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, &[u8])> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (len, rest) = match second & 0x7f {
        126 => rest.split_first_chunk().map(|(len, rest)| (u16::from_be_bytes(*len).into(), rest))?,
        127 => rest.split_first_chunk().map(|(len, rest)| (u64::from_be_bytes(*len), rest))?,
        len => (len.into(), rest),
    };
    let (key, rest) = if second & 0x80 != 0 { rest.split_first_chunk()? } else { (&[0; 4], rest) };
    let (payload, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    Some((first, payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect(), rest))
}

/// The messages of a gRPC body, flags and bytes, and whether what follows them is no message.
#[must_use]
pub fn messages(body: &[u8]) -> (Vec<(u8, Vec<u8>)>, bool) {
    let (mut messages, mut rest) = (Vec::new(), body);
    while let Some((&[flags, a, b, c, d], tail)) = rest.split_first_chunk() {
        if flags & !0x81 != 0 {
            return (messages, true);
        }
        let Some((message, after)) = tail.split_at_checked(u32::from_be_bytes([a, b, c, d]) as usize) else {
            break;
        };
        messages.push((flags, message.to_vec()));
        rest = after;
    }
    (messages, false)
}
