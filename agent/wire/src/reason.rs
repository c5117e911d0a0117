//! Why bytes were not read as an exchange: every reason that [`crate::Ending::Malformed`],
//! [`crate::Ending::Undecodable`], [`crate::Sink::dropped`] and the parsers of bodies can give.

/// Bytes of a connection that was joined late, or after a loss, before the next message began.
pub const OUT_OF_STEP: &str = "no message start seen yet";
/// Bytes of a connection that speaks nothing that is read here.
pub const NOT_HTTP: &str = "not a known protocol";
/// Bytes of a connection that speaks TLS, and is read where the library encrypts and decrypts it.
pub const TLS: &str = "TLS records";
/// What begins like a header of the PROXY protocol and is none.
pub const PROXY_HEADER: &str = "invalid PROXY protocol header";
/// A response to a request that was not seen, or that came so early that it could not be kept.
pub const NO_REQUEST: &str = "response without its request";
/// Bytes after a request to switch protocols that came so early that they could not be kept, or in vain; those of an
/// HTTP/2 stream also where the answer is not known.
pub const NO_SWITCH: &str = "protocol switch not answered";
/// Requests without an answer above [`crate::Limits::in_flight`]: pairs can no longer be told.
pub const TOO_MANY_IN_FLIGHT: &str = "too many requests in flight";

/// A header block, chunk-size line or trailer block longer than [`crate::Limits::head`].
pub const HEAD_TOO_LONG: &str = "header block over the limit";
/// Neither a request line nor a status line where a message begins.
pub const START_LINE: &str = "invalid start line";
/// A request where responses come from, or the other way round.
pub const WRONG_SIDE: &str = "message from the wrong side";
/// A line of a header block that is no field.
pub const FIELD_LINE: &str = "invalid header field";
/// Content-Length is no number, or its values differ.
pub const CONTENT_LENGTH: &str = "invalid or conflicting content-length";
/// A request whose last transfer coding is not chunked.
pub const TRANSFER_ENCODING: &str = "request body without an end";
/// A chunk does not begin with its size.
pub const CHUNK_SIZE: &str = "invalid chunk size";
/// A chunk is longer than its size says.
pub const CHUNK_END: &str = "chunk without an end of line";

/// An HTTP/2 stream above [`crate::Limits::streams`].
pub const TOO_MANY_STREAMS: &str = "too many streams";
/// A response that the server pushed: nobody asked for it.
pub const PUSHED: &str = "pushed response";
/// An interim response (1xx) after which no final one can come (RFC 9113 §8.1).
pub const INTERIM_END: &str = "interim response that ends the stream";
/// A frame whose length does not fit its type (RFC 9113 §4.2, §6).
pub const FRAME_SIZE: &str = "invalid frame size";
/// A frame on a stream on which its type cannot be.
pub const FRAME_STREAM: &str = "frame on the wrong stream";
/// A CONTINUATION frame where there is none to be, or another frame inside a field block.
pub const CONTINUATION: &str = "broken field block";
/// More padding than frame.
pub const PADDING: &str = "padding over the frame's length";
/// What should be the client's connection preface is something else.
pub const PREFACE: &str = "invalid connection preface";
/// A field refers to a table entry that does not exist.
pub const FIELD_INDEX: &str = "invalid index in a field block";
/// A number in a field block is larger than any can be.
pub const FIELD_INTEGER: &str = "number too large in a field block";
/// A field block ends inside a field.
pub const FIELD_CUT: &str = "field block without its end";
/// The size of the table changes in the middle of a field block.
pub const TABLE_SIZE: &str = "misplaced table size update";
/// A string that is no Huffman code.
pub const HUFFMAN: &str = "invalid huffman code";

/// A gRPC message begins with flags that do not exist.
pub const GRPC_FLAGS: &str = "invalid flags of a gRPC message";
/// Missing bytes hide where the next gRPC message begins.
pub const GRPC_GAP: &str = "missing bytes between gRPC messages";

/// A WebSocket frame with reserved bits that no extension gave a meaning (RFC 6455 §5.2).
pub const RESERVED_BITS: &str = "reserved bits of a WebSocket frame";
/// A WebSocket frame of a type that does not exist.
pub const OPCODE: &str = "unknown WebSocket opcode";
/// A WebSocket control frame that is too long or only a part (RFC 6455 §5.5).
pub const CONTROL_FRAME: &str = "invalid WebSocket control frame";
/// A WebSocket frame whose length has more than 63 bits.
pub const MESSAGE_LENGTH: &str = "invalid length of a WebSocket frame";
/// A WebSocket message that goes on without a start, or begins inside another (RFC 6455 §5.4).
pub const FRAGMENT: &str = "broken WebSocket message";
/// Bytes of a side of a WebSocket that had closed it.
pub const AFTER_CLOSE: &str = "bytes after a WebSocket close";
/// A WebSocket extension that is not known here, or one that may have been lost with its field.
pub const EXTENSION: &str = "unknown WebSocket extension";
/// Compressed messages of a WebSocket on an HTTP/2 stream above [`crate::Limits::inflating`].
pub const TOO_MANY_INFLATING: &str = "too many compressed WebSockets";
/// WebSocket messages that are compressed with reference to some of which bytes are missing.
pub const CONTEXT_LOST: &str = "compressed WebSocket message after a loss";

/// What should be JSON is something else.
pub const JSON: &str = "invalid JSON";
/// JSON whose brackets are nested deeper than is followed.
pub const JSON_DEPTH: &str = "JSON nested over the limit";
/// A body ended inside its JSON.
pub const JSON_CUT: &str = "JSON without its end";

/// What should be base64 is something else.
pub const BASE64: &str = "invalid base64";

/// What should be the prelude of an event stream message is none, or its checksum is wrong.
pub const EVENT_PRELUDE: &str = "invalid prelude of an event stream message";
/// The headers of an event stream message are not what its prelude says, or of an unknown type.
pub const EVENT_HEADERS: &str = "invalid headers of an event stream message";
/// The checksum of an event stream message is not that of its bytes.
pub const EVENT_CHECKSUM: &str = "wrong checksum of an event stream message";
/// Bytes of an event stream message are missing.
pub const EVENT_GAP: &str = "missing bytes of an event stream message";
/// A body ended inside an event stream message.
pub const EVENT_CUT: &str = "event stream message without its end";

/// A boundary of a multipart body is followed by something else than the end of its line.
pub const PART_BOUNDARY: &str = "invalid boundary of a multipart body";
/// A multipart body ended before its last boundary.
pub const PART_CUT: &str = "multipart body without its end";

/// A content coding that is not known here.
pub const UNKNOWN_CODING: &str = "unknown content coding";
/// More content codings one upon the other than make sense.
pub const TOO_MANY_CODINGS: &str = "too many content codings";
/// A body that becomes larger than [`crate::Limits::decoded`].
pub const DECODED_SIZE: &str = "decoded body over the size limit";
/// A body that grows by more than [`crate::Limits::ratio`].
pub const DECODED_RATIO: &str = "decoded body over the ratio limit";
/// Not what the coding's format allows.
pub const CORRUPT: &str = "corrupt content coding";
/// The message ended inside its content coding.
pub const CODING_CUT: &str = "content coding without its end";
