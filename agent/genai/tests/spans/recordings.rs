//! Reads recorded interactions: VCR cassettes of several libraries.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value as Json;

use crate::exchange::Exchange;

/// Every HTTP interaction in a folder of recordings, with the name of its file, in order.
pub(crate) fn load(folder: &str) -> Vec<(String, Exchange)> {
    // The build script found it there.
    let root = Path::new(option_env!("RECORDINGS").unwrap_or_default());
    let files = fs::read_dir(root.join(folder)).unwrap_or_else(|e| panic!("{folder}: {e}"));
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    let mut exchanges = Vec::new();
    for file in files {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        let interactions = interactions(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        for (number, interaction) in interactions.iter().enumerate() {
            let exchange = exchange(interaction)
                .unwrap_or_else(|what| panic!("{name}: interaction {number} has no {what}"));
            exchanges.push((name.clone(), exchange));
        }
    }
    exchanges
}

/// Messages as JSON and as bytes.
pub(crate) type Messages = Vec<(Json, Vec<u8>)>;

/// Recorded streams of gRPC: the JSON and the bytes of the request, and of each message of the response.
pub(crate) fn grpc_streams(folder: &str) -> Vec<(String, [Messages; 2])> {
    let root = Path::new(option_env!("RECORDINGS").unwrap_or_default());
    let mut streams = Vec::new();
    for file in fs::read_dir(root.join(folder)).unwrap_or_else(|e| panic!("{folder}: {e}")) {
        let file = file.expect("a file").path();
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let text =
            fs::read_to_string(&file).unwrap_or_else(|e| panic!("{name}: {e}")).replace("!!binary ", "");
        for interaction in interactions(&text).unwrap_or_else(|e| panic!("{name}: {e}")) {
            let (request, response) = (&interaction["request_stream"], &interaction["response_stream"]);
            let raw = |bytes: &Json| base64(bytes.as_str().unwrap_or_default());
            let chunks = response["chunks_json"].as_array().zip(response["chunks_raw"].as_array());
            let (json, bytes) = chunks.unwrap_or_else(|| panic!("{name} has no chunks"));
            let messages =
                json.iter().map(|chunk| chunk["chunk"].clone()).zip(bytes.iter().map(raw)).collect();
            streams.push((name.clone(), [vec![(request["json"].clone(), raw(&request["raw"]))], messages]));
        }
    }
    streams
}

fn interactions(text: &str) -> Result<Vec<Json>, serde_saphyr::Error> {
    // Bodies in base64 get their own name, as JSON has no tags.
    let text = text.replace("string: !!binary |", "base64: |").replace("string: !binary |", "base64: |");
    let mut whole: BTreeMap<String, Json> = serde_saphyr::from_str(&text)?;
    let list = whole.remove("interactions").or_else(|| whole.remove("http_interactions"));
    let list = list.and_then(|list| list.as_array().cloned()).filter(|list| !list.is_empty());
    Ok(list.expect("a recording has interactions"))
}

/// The exchange of an interaction; what that lacks when it cannot be told.
fn exchange(interaction: &Json) -> Result<Exchange, &'static str> {
    let (request, response) = (&interaction["request"], &interaction["response"]);
    let uri = request["uri"].as_str().ok_or("URI")?;
    let (_scheme, rest) = uri.split_once("://").ok_or("scheme")?;
    let (host, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let body = body(response);
    let kept = |name: &str| match name {
        "transfer-encoding" | "content-length" => false,
        "content-encoding" => body.starts_with(&[0x1f, 0x8b]),
        _ => true,
    };
    // Some write a number beside an interaction that was put together by hand.
    let status = [&response["status"]["code"], &response["status_code"]].into_iter().find_map(Json::as_u64);
    let status = status.and_then(|code| code.try_into().ok());
    Ok(Exchange {
        method: request["method"].as_str().ok_or("method")?.to_ascii_uppercase(),
        host: host.to_owned(),
        target: target.to_owned(),
        request_fields: fields(&request["headers"], &|name| {
            !matches!(
                name,
                "host" | "content-length" | "transfer-encoding" | "content-encoding" | "connection"
            )
        })
        .ok_or("request headers")?,
        request: self::body(request),
        status: status.ok_or("status")?,
        response_fields: fields(&response["headers"], &kept).ok_or("response headers")?,
        response: body,
    })
}

fn fields(headers: &Json, kept: &dyn Fn(&str) -> bool) -> Option<Vec<(String, String)>> {
    let fields = headers.as_object()?.iter().filter(|(name, _)| kept(&name.to_ascii_lowercase()));
    let first = |values: &Json| values.as_str().or_else(|| values[0].as_str()).unwrap_or_default().to_owned();
    Some(fields.map(|(name, values)| (name.clone(), first(values))).collect())
}

fn body(message: &Json) -> Vec<u8> {
    if message["parsed_body"].is_object() {
        return message["parsed_body"].to_string().into_bytes();
    }
    let body = if message["body"].is_null() { &message["content"] } else { &message["body"] };
    if let Some(text) = body.as_str().or_else(|| body["string"].as_str()) {
        return text.as_bytes().to_vec();
    }
    base64(body["base64"].as_str().unwrap_or_default())
}

fn base64(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<u32> =
        text.bytes().filter_map(|b| alphabet.iter().position(|a| *a == b)).map(|n| n as u32).collect();
    let group = |group: &[u32]| {
        let word = group.iter().fold(0, |word, digit| word << 6 | digit) << (6 * (4 - group.len()));
        word.to_be_bytes()[1..group.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}
