//! Bodies of cases: text, or a directive in the first line that says how the other lines become bytes.

/// The bytes of a body.
pub(crate) fn encode(body: &str, content_type: Option<&str>) -> Vec<u8> {
    let (directive, lines) = body.split_once('\n').unwrap_or((body, ""));
    match directive {
        "@eventstream" => lines.lines().flat_map(event).collect(),
        "@multipart" => (lines.trim_end_matches('\n').replace('\n', "\r\n") + "\r\n").into_bytes(),
        "@crlf" => (lines.trim_end_matches('\n').replace('\n', "\r\n") + "\r\n\r\n").into_bytes(),
        "@hex" => hex(lines),
        "@websocket" => Vec::new(),
        _ if content_type.is_some_and(|kind| kind.starts_with("text/event-stream")) => {
            (body.trim_end_matches('\n').to_owned() + "\n\n").into_bytes()
        }
        _ => body.trim_end_matches('\n').as_bytes().to_vec(),
    }
}

/// The frames of `> text` and `< text`, with their side.
pub(crate) fn web_socket(body: &str) -> Vec<(usize, Vec<u8>)> {
    let lines = body.lines().skip(1);
    let frames = lines.filter_map(|line| {
        let (side, text) = line.split_at_checked(2)?;
        match side {
            "> " => Some((0, frame(text.as_bytes(), true))),
            "< " => Some((1, frame(text.as_bytes(), false))),
            _ => None,
        }
    });
    frames.collect()
}

/// A text frame (RFC 6455 §5.2); the mask of a client is zero.
fn frame(text: &[u8], masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut frame = vec![0x81];
    match text.len() {
        len @ 0..126 => frame.push(mask | len as u8),
        len @ 126..0x1_0000 => {
            frame.push(mask | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(mask | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    if masked {
        frame.extend([0; 4]);
    }
    frame.extend_from_slice(text);
    frame
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter_map(|b| char::from(b).to_digit(16)).map(|d| d as u8).collect();
    digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
}

/// A message of Amazon's event stream: `type {json}`, `!exception {json}`, or `~type {json}` for a document as base64
/// inside.
fn event(line: &str) -> Vec<u8> {
    let (kind, json) = line.split_once(' ').unwrap_or((line, "{}"));
    let (kind, names, payload) = match kind.as_bytes().first() {
        Some(b'!') => (&kind[1..], (":exception-type", "exception"), json.to_owned()),
        Some(b'~') => {
            let payload = format!(r#"{{"bytes":"{}","p":"ab"}}"#, base64(json.as_bytes()));
            (&kind[1..], (":event-type", "event"), payload)
        }
        _ => (kind, (":event-type", "event"), json.to_owned()),
    };
    let mut headers = Vec::new();
    for (name, value) in [(names.0, kind), (":content-type", "application/json"), (":message-type", names.1)]
    {
        headers.push(name.len() as u8);
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend((value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let total = 16 + headers.len() + payload.len();
    let mut message = (total as u32).to_be_bytes().to_vec();
    message.extend((headers.len() as u32).to_be_bytes());
    message.extend(crc32(&message).to_be_bytes());
    message.extend(headers);
    message.extend_from_slice(payload.as_bytes());
    message.extend(crc32(&message).to_be_bytes());
    message
}

/// CRC-32 as in IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |mut crc: u32, &byte| {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
        crc
    })
}

fn base64(bytes: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks(3).flat_map(|group| {
        let word =
            group.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        let digit = move |n: usize| match n <= group.len() {
            true => char::from(alphabet[(word >> (18 - 6 * n)) as usize & 63]),
            false => '=',
        };
        (0..4).map(digit).collect::<Vec<_>>()
    });
    groups.collect()
}
