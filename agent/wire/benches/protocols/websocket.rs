//! Tapes of a WebSocket: one exchange each.

use flate2::{Compress, Compression, FlushCompress};
use tokentap_wire::Direction;

use crate::{bodies, tape::Tape};

const TEXT: u8 = 0x81;
const COMPRESSED: u8 = 0x40;
const CLOSE: u8 = 0x88;
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// How the messages are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// By the server, as they are.
    Plain,
    /// By the client, so with a mask.
    Masked,
    /// By the server, with permessage-deflate (RFC 7692).
    Deflated,
}

pub(crate) fn tape(messages: usize, sent: Sent) -> Tape {
    let mut tape = Tape::new(1, messages);
    tape.call(
        Direction::Write,
        b"GET /v1/realtime HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    );
    let extensions = match sent {
        Sent::Deflated => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        Sent::Plain | Sent::Masked => "",
    };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{extensions}\r\n"
    );
    tape.call(Direction::Read, answer.as_bytes());
    let mut bytes = Vec::new();
    let mut deflate = Compress::new(Compression::default(), false);
    let mut decoded = 0;
    for number in 0..messages {
        let text = bodies::document(number);
        decoded += text.len();
        match sent {
            Sent::Plain => frame(&mut bytes, TEXT, None, text.as_bytes()),
            Sent::Masked => frame(&mut bytes, TEXT, Some(KEY), text.as_bytes()),
            Sent::Deflated => {
                let mut payload = Vec::with_capacity(text.len() + 64);
                deflate
                    .compress_vec(text.as_bytes(), &mut payload, FlushCompress::Sync)
                    .expect("text that can be compressed");
                // The empty block that ends it is left out (§7.2.1).
                payload.truncate(payload.len() - 4);
                frame(&mut bytes, TEXT | COMPRESSED, None, &payload);
            }
        }
    }
    let from = if sent == Sent::Masked { Direction::Write } else { Direction::Read };
    tape.call(from, &bytes);
    for dir in Direction::ALL {
        let mut close = Vec::new();
        frame(&mut close, CLOSE, (dir == Direction::Write).then_some(KEY), b"\x03\xe8");
        tape.call(dir, &close);
    }
    if sent == Sent::Deflated {
        tape.measured = decoded;
    }
    tape
}

fn frame(out: &mut Vec<u8>, first: u8, key: Option<[u8; 4]>, payload: &[u8]) {
    let mask = if key.is_some() { 0x80 } else { 0 };
    out.push(first);
    match u8::try_from(payload.len()) {
        Ok(len @ ..=125) => out.push(mask | len),
        _ => {
            out.push(mask | 126);
            out.extend((payload.len() as u16).to_be_bytes());
        }
    }
    let Some(key) = key else { return out.extend(payload) };
    out.extend(key);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
}
