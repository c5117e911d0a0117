//! What is in the bodies.

use std::io::Write;

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};

/// A request id: 32 hexadecimal digits, another one for each number.
pub(crate) fn id(number: usize) -> String {
    format!("{:032x}", (number as u128 + 1) * 0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
}

/// A piece of a streamed chat completion: as an event about 149 bytes, as those of 44.8 kB in 300 events are.
pub(crate) fn document(number: usize) -> String {
    const WORDS: [&str; 16] = [
        "a",
        " the",
        " of",
        "ing",
        " model",
        " because",
        ",",
        r".\n\n",
        " stream",
        r#" \"quote"#,
        " is",
        " token",
        " answers",
        " in",
        " we",
        " 42",
    ];
    // Fibonacci hashing: text that does not repeat itself.
    let word = WORDS[(number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60];
    format!(
        r#"{{"id":"chatcmpl-0123456789","object":"chat.completion.chunk","model":"gpt-4o","choices":[{{"index":0,"delta":{{"content":"{word}"}}}}]}}"#
    )
}

/// This many documents as server-sent events.
pub(crate) fn events(count: usize) -> Vec<Vec<u8>> {
    let events = (0..count).map(|number| format!("data: {}\n\n", document(number)).into_bytes());
    events.chain([b"data: [DONE]\n\n".to_vec()]).collect()
}

/// This many documents, one a line.
pub(crate) fn lines(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| (document(number) + "\n").into_bytes()).collect()
}

/// This many arbitrary bytes.
pub(crate) fn bulk(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 131 % 251) as u8).collect()
}

/// gRPC messages, compressed with gzip if they are to be.
pub(crate) fn messages(count: usize, gzip: bool) -> Vec<Vec<u8>> {
    let message = |number| {
        let text = document(number).repeat(if gzip { 8 } else { 1 }).into_bytes();
        let payload = if gzip { self::gzip(&text) } else { text };
        prefixed(u8::from(gzip), &payload)
    };
    (0..count).map(message).collect()
}

/// A gRPC-Web body: messages and trailers, in base64 if it is to be text.
pub(crate) fn web_messages(count: usize, text: bool) -> Vec<Vec<u8>> {
    let mut messages = messages(count, false);
    messages.push(prefixed(0x80, b"grpc-status: 0\r\n"));
    if text {
        messages.iter_mut().for_each(|message| *message = base64(message));
    }
    messages
}

/// How many bytes all of those become when they are decompressed.
pub(crate) fn message_bytes(count: usize) -> usize {
    (0..count).map(|number| 5 + 8 * document(number).len()).sum()
}

fn prefixed(flags: u8, payload: &[u8]) -> Vec<u8> {
    [&[flags], &(payload.len() as u32).to_be_bytes()[..], payload].concat()
}

/// Messages of an AWS event stream, with the headers that Bedrock's have.
pub(crate) fn frames(count: usize) -> Vec<Vec<u8>> {
    let mut headers = Vec::new();
    for (name, value) in
        [(":event-type", "chunk"), (":content-type", "application/json"), (":message-type", "event")]
    {
        headers.push(name.len() as u8);
        headers.extend(name.as_bytes());
        headers.extend([7, 0, value.len() as u8]);
        headers.extend(value.as_bytes());
    }
    let frame = |number| {
        let payload = document(number).into_bytes();
        let total = (16 + headers.len() + payload.len()) as u32;
        let mut out = [total.to_be_bytes(), (headers.len() as u32).to_be_bytes()].concat();
        out.extend(crc32fast::hash(&out).to_be_bytes());
        out.extend([&headers[..], &payload].concat());
        out.extend(crc32fast::hash(&out).to_be_bytes());
        out
    };
    (0..count).map(frame).collect()
}

/// A form with a field and a file of this many bytes.
pub(crate) fn form(len: usize) -> Vec<u8> {
    let head = "--boundary\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--boundary\r\n\
                Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n";
    [head.as_bytes(), &bulk(len), b"\r\n--boundary--\r\n"].concat()
}

/// A request with an image of this many bytes in it.
pub(crate) fn image(len: usize) -> Vec<u8> {
    let image = "iVBORw0KGgo/+=AA".repeat(len / 16);
    let begin = r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,"#;
    format!(r#"{begin}{image}"}}}}]}}],"model":"gpt-4o"}}"#).into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    encode(GzEncoder::new(Vec::new(), Compression::default()), [bytes]).finish().expect(MEMORY)
}

const MEMORY: &str = "memory to write to";

/// A body in a content coding, flushed after each chunk, as it has to be for the chunk to be seen at once.
pub(crate) fn coded(coding: &str, chunks: &[Vec<u8>]) -> Vec<u8> {
    match coding {
        "gzip" => encode(GzEncoder::new(Vec::new(), Compression::default()), chunks).finish(),
        "deflate" => encode(ZlibEncoder::new(Vec::new(), Compression::default()), chunks).finish(),
        "br" => Ok(encode(brotli::CompressorWriter::new(Vec::new(), 4096, 5, 18), chunks).into_inner()),
        "zstd" => zstd::Encoder::new(Vec::new(), 3).and_then(|encoder| encode(encoder, chunks).finish()),
        _ => panic!("{coding}"),
    }
    .expect(MEMORY)
}

fn encode<W: Write>(mut encoder: W, chunks: impl IntoIterator<Item = impl AsRef<[u8]>>) -> W {
    for chunk in chunks {
        encoder.write_all(chunk.as_ref()).and_then(|()| encoder.flush()).expect(MEMORY);
    }
    encoder
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0_usize, |word, &byte| word << 8 | usize::from(byte));
        let word = word << (8 * (3 - group.len()));
        let digits = [18, 12, 6, 0].map(|shift| DIGITS[word >> shift & 63]);
        out.extend(&digits[..=group.len()]);
        out.extend(&b"=="[..3 - group.len()]);
    }
    out
}
