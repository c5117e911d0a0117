//! What a call says: prompts, completions, tools, their arguments and results. Kept only where the user asks for it.
//!
//! ```text
//!   bytes of a document ──► `Document` (bounded) ──► the API's own reader ──► `Content` of the call
//!   span ◄── JSON of the conventions' schemas ◄── hidden, redacted, truncated ◄──┘
//! ```
//!
//! Bounds: of a string 64 KiB are kept, of a document 1 MiB, of what comes out of a call 1 MiB.

mod document;
mod message;
mod options;
mod read;
mod redaction;
mod render;

use serde_json::Value as Json;
use tokentap_wire::Role;

use document::Document;
use message::{Arguments, Choice, Message};

pub use options::{ContentOptions, Destination, Hidden};
pub use redaction::{PatternError, Redaction};

pub(crate) use message::Part;
pub(crate) use render::render;

/// Most that is kept of what comes out of a call, in bytes.
const MOST_OUTPUT: usize = 1 << 20;
/// Most choices, parts, tools and documents that are kept of each.
const MOST_ITEMS: usize = 4096;

/// Reads a document of a body, or an event of a stream, as one API has them.
pub(crate) type ReadContent = fn(&Sent<'_>, &mut Content);

/// A document of a body, or an event of a stream.
pub(crate) struct Sent<'a> {
    pub(crate) from: Role,
    pub(crate) json: &'a Json,
}

impl<'a> Sent<'a> {
    pub(crate) fn is_request(&self) -> bool {
        self.from == Role::Client
    }

    /// A field that is there and not null.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Json> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    /// A field at the end of a path.
    pub(crate) fn at(&self, pointer: &str) -> Option<&'a Json> {
        self.json.pointer(pointer).filter(|value| !value.is_null())
    }

    /// The `type` of the document.
    pub(crate) fn kind(&self) -> &'a str {
        self.json.get("type").and_then(Json::as_str).unwrap_or_default()
    }

    /// A field that is a count or an index; 0 where it is not there.
    pub(crate) fn number(&self, key: &str) -> u64 {
        self.json.get(key).and_then(Json::as_u64).unwrap_or(0)
    }

    /// The items of a field that is an array.
    pub(crate) fn list(&self, key: &str) -> &'a [Json] {
        self.json.get(key).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The index of a choice: what it says itself, else its position.
pub(crate) fn choice_index(choice: &Json, position: u32) -> u32 {
    let index = choice.get("index").and_then(Json::as_u64);
    index.and_then(|index| index.try_into().ok()).unwrap_or(position)
}

/// The documents of one exchange, while they pass.
#[derive(Debug)]
pub(crate) struct Capture {
    read: ReadContent,
    /// By [`Role::index`] of who sends them.
    documents: [Document; 2],
}

impl Capture {
    pub(crate) fn new(read: ReadContent) -> Self {
        Self { read, documents: Default::default() }
    }

    /// A document begins.
    pub(crate) fn begin(&mut self, from: Role) {
        self.documents[from.index()].clear();
    }

    pub(crate) fn push(&mut self, from: Role, bytes: &[u8]) {
        self.documents[from.index()].push(bytes);
    }

    /// Bytes are missing.
    pub(crate) fn gap(&mut self, from: Role) {
        self.documents[from.index()].gap();
    }

    /// A document ends: the content of its call gets what it says.
    pub(crate) fn end(&mut self, from: Role, whole: bool, content: &mut Option<Box<Content>>) {
        if let Some(json) = self.documents[from.index()].take(whole) {
            let content = content.get_or_insert_default();
            (self.read)(&Sent { from, json: &json }, content);
        }
    }
}

/// The content of one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Content {
    /// Instructions that are no part of the conversation.
    system: Vec<Part>,
    input: Vec<Message>,
    choices: Vec<Choice>,
    tools: Vec<Json>,
    arguments: Option<Json>,
    result: Option<Json>,
    query: Option<String>,
    documents: Vec<Json>,
    /// How much came out so far, in bytes.
    kept: usize,
    /// The request asks for pieces where events could have all of a text so far.
    pub(crate) in_pieces: bool,
}

impl Content {
    /// Takes what a later part of the same call says.
    pub(crate) fn absorb(&mut self, newer: Self) {
        self.system.extend(newer.system);
        self.input.extend(newer.input);
        self.choices.extend(newer.choices);
        self.tools.extend(newer.tools);
        self.arguments = newer.arguments.or_else(|| self.arguments.take());
        self.result = newer.result.or_else(|| self.result.take());
        self.query = newer.query.or_else(|| self.query.take());
        self.documents.extend(newer.documents);
    }

    /// Instructions: text, a part, a list of parts, or a message that has them.
    pub(crate) fn system(&mut self, json: Option<&Json>) {
        let Some(json) = json else { return };
        let inner = json.get("parts").or_else(|| json.get("content")).unwrap_or(json);
        self.system.extend(read::parts(inner));
    }

    /// Messages of the conversation: a list of them, or one.
    pub(crate) fn input(&mut self, json: Option<&Json>) {
        match json {
            Some(Json::Array(list)) => {
                self.input.extend(list.iter().filter_map(read::message).take(MOST_ITEMS));
            }
            Some(json) => self.input.extend(read::message(json)),
            None => {}
        }
    }

    /// A prompt, or a list of prompts, of an API without messages.
    pub(crate) fn prompt(&mut self, json: Option<&Json>) {
        let parts = json.map(read::parts).unwrap_or_default();
        if !parts.is_empty() {
            self.input.push(Message { role: "user".into(), name: None, parts });
        }
    }

    /// Definitions of tools, in whatever form the API takes them.
    pub(crate) fn tools(&mut self, json: Option<&Json>) {
        let list = json.and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        for tool in list.iter().take(MOST_ITEMS) {
            let group = ["functionDeclarations", "function_declarations"];
            match group.into_iter().find_map(|key| tool.get(key)?.as_array()) {
                Some(group) => self.tools.extend(group.iter().map(tool_definition)),
                None => self.tools.push(tool_definition(tool)),
            }
        }
    }

    /// The arguments of the tool that this call runs.
    pub(crate) fn arguments(&mut self, json: Option<&Json>) {
        self.arguments = json.cloned();
    }

    /// What the tool gave.
    pub(crate) fn result(&mut self, json: Option<&Json>) {
        self.result = json.cloned();
    }

    /// What was searched for.
    pub(crate) fn query(&mut self, json: Option<&Json>) {
        self.query = json.and_then(Json::as_str).map(str::to_owned);
    }

    /// What was found: an id and a score of each.
    pub(crate) fn document(&mut self, id: Option<&Json>, score: Option<&Json>) {
        if self.documents.len() < MOST_ITEMS {
            let mut document = serde_json::Map::new();
            if let Some(id) = id {
                let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
                document.insert("id".into(), id.into());
            }
            if let Some(score) = score.filter(|score| score.is_number()) {
                document.insert("score".into(), score.clone());
            }
            self.documents.push(document.into());
        }
    }

    /// A whole message that came out as one choice.
    pub(crate) fn message(&mut self, choice: u32, json: Option<&Json>) {
        let parts = match json {
            Some(Json::Object(message)) => read::message_parts(message),
            Some(json) => read::parts(json),
            None => return,
        };
        for part in parts {
            self.whole(choice, part);
        }
    }

    /// Parts that follow those before: text goes on where the last one is of its kind.
    pub(crate) fn follow(&mut self, choice: u32, json: &Json) {
        for part in read::parts(json) {
            match part {
                Part::Text { .. } | Part::Reasoning { .. } => {
                    let last = self.choice(choice).and_then(|choice| choice.last_number());
                    self.piece(choice, last.unwrap_or(WHOLE), part);
                }
                part => self.whole(choice, part),
            }
        }
    }

    /// Pieces of one part.
    pub(crate) fn pieces(&mut self, choice: u32, number: u64, json: &Json) {
        for part in read::parts(json) {
            self.piece(choice, number, part);
        }
    }

    fn whole(&mut self, choice: u32, part: Part) {
        let next = self.choice(choice).and_then(|choice| choice.last_number());
        self.piece(choice, next.map_or(WHOLE, |last| last.saturating_add(1)), part);
    }

    /// A piece of a part of a choice: pieces of one part have the same number and kind.
    pub(crate) fn piece(&mut self, choice: u32, number: u64, piece: Part) {
        self.kept += piece.size();
        if self.kept > MOST_OUTPUT {
            return;
        }
        if let Some(choice) = self.choice(choice) {
            choice.piece(number, piece);
        }
    }

    /// As [`Self::piece`], of a format whose events may have all of a part so far: unless the request asked for pieces, one
    /// that begins with what is known takes its place.
    pub(crate) fn piece_or_all(&mut self, choice: u32, number: u64, piece: Part) {
        let may_be_all = !self.in_pieces;
        let known = self.choice(choice).filter(|_| may_be_all).and_then(|choice| choice.part(number));
        match known.filter(|known| piece.begins_with(known)) {
            Some(known) => {
                let known_size = std::mem::replace(known, piece.clone()).size();
                self.kept = self.kept.saturating_sub(known_size) + piece.size();
            }
            None => self.piece(choice, number, piece),
        }
    }

    /// As [`Self::tool_call`], of such a format.
    pub(crate) fn tool_call_or_all(&mut self, choice: u32, number: u64, json: &Json) {
        if let Some(call) = read::tool_call(json) {
            self.piece_or_all(choice, number, call);
        }
    }

    /// A piece of text that comes out.
    pub(crate) fn text(&mut self, choice: u32, number: u64, json: Option<&Json>) {
        if let Some(text) = json.and_then(Json::as_str).filter(|text| !text.is_empty()) {
            self.piece(choice, number, Part::text(text));
        }
    }

    /// A piece of reasoning.
    pub(crate) fn reasoning(&mut self, choice: u32, number: u64, json: Option<&Json>) {
        if let Some(text) = json.and_then(Json::as_str).filter(|text| !text.is_empty()) {
            self.piece(choice, number, Part::reasoning(text));
        }
    }

    /// A piece of a call of a tool: an object with its name and arguments, or one that has such an object as `function`.
    pub(crate) fn tool_call(&mut self, choice: u32, number: u64, json: &Json) {
        if let Some(call) = read::tool_call(json) {
            self.piece(choice, number, call);
        }
    }

    /// A piece of the arguments of a call of a tool that was begun.
    pub(crate) fn tool_arguments(&mut self, choice: u32, number: u64, json: Option<&Json>) {
        let arguments = match json {
            Some(Json::String(text)) => Arguments::Text(text.clone()),
            Some(json) => Arguments::Json(json.clone()),
            None => return,
        };
        self.piece(choice, number, Part::ToolCall { id: None, name: String::new(), arguments });
    }

    /// A whole part, or a list of them, whose pieces came before under `numbers`.
    pub(crate) fn replace(&mut self, choice: u32, numbers: std::ops::Range<u64>, json: &Json) {
        let parts = match json {
            Json::Object(item) => read::message_parts(item),
            json => read::parts(json),
        };
        self.kept += parts.iter().map(Part::size).sum::<usize>();
        // An item without a word of its own takes nothing back.
        if self.kept <= MOST_OUTPUT
            && !parts.is_empty()
            && let Some(choice) = self.choice(choice)
        {
            choice.replace(numbers, parts);
        }
    }

    /// Drops what came out so far: the whole of it follows.
    pub(crate) fn restart_output(&mut self) {
        self.choices.clear();
        self.kept = 0;
    }

    fn choice(&mut self, index: u32) -> Option<&mut Choice> {
        let at = self.choices.iter().position(|choice| choice.index == index);
        let at = at.unwrap_or_else(|| {
            self.choices.push(Choice::new(index));
            self.choices.len() - 1
        });
        (at < MOST_ITEMS).then(|| &mut self.choices[at])
    }
}

/// Numbers of parts of whole messages begin here.
const WHOLE: u64 = 1 << 32;

/// The definition of a tool in the conventions' form (`gen-ai-tool-definitions`): what a format puts into `function` or
/// `toolSpec` is at the top, and a schema is called `parameters`.
fn tool_definition(tool: &Json) -> Json {
    let Some(object) = tool.as_object() else { return tool.clone() };
    let wrapped = ["function", "toolSpec", "custom"].into_iter();
    let inner = wrapped.filter_map(|key| object.get(key)?.as_object()).next().unwrap_or(object);
    let mut definition = serde_json::Map::new();
    let kind = object.get("type").and_then(Json::as_str).filter(|kind| !kind.is_empty());
    // Tools of the provider are known by their type, or by the only field of their object.
    let kind_or_field = || kind.or_else(|| object.keys().next().map(String::as_str)).unwrap_or_default();
    let name = inner.get("name").and_then(Json::as_str);
    let kind_or_function = if name.is_some() { kind.unwrap_or("function") } else { kind_or_field() };
    definition.insert("type".into(), kind_or_function.into());
    definition.insert("name".into(), name.unwrap_or_else(kind_or_field).into());
    if let Some(description) = inner.get("description").filter(|text| text.is_string()) {
        definition.insert("description".into(), description.clone());
    }
    let schemas = ["parameters", "input_schema", "inputSchema", "parametersJsonSchema"].into_iter();
    if let Some(schema) = schemas.filter_map(|key| inner.get(key)).next().filter(|schema| schema.is_object())
    {
        let schema = schema.get("json").filter(|_| inner.contains_key("inputSchema")).unwrap_or(schema);
        definition.insert("parameters".into(), schema.clone());
    }
    definition.into()
}
