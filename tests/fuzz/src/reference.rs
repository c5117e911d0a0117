//! What a parser must say of a body that has no gap, done the obvious way: all of it at once.

/// Server-sent events as (name, data, id), as the HTML standard interprets a stream (§9.2.6).
#[must_use]
pub fn events(stream: &[u8]) -> Vec<[Vec<u8>; 3]> {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let (mut events, mut name, mut id) = (Vec::new(), Vec::new(), Vec::new());
    let mut data: Option<Vec<u8>> = None;
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
            b"data" => match &mut data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => data = Some(value.to_vec()),
            },
            _ => {}
        }
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
