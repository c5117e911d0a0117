//! Why captured bytes were not read as an exchange, or a body not as what it was announced to be.

use std::fmt;

/// Declares [`Reason`]: each reason with its name and sentence in one place.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $sentence:literal;)+) => {
        /// Why bytes were skipped or could not be decoded: in [`crate::Ending`], [`crate::Sink::dropped`] and the
        /// results of the body parsers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)+
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable name for machines, in snake case: for counters and log fields.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The description for people, as it follows a colon.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$variant => $sentence,)+
                }
            }
        }
    };
}

reasons! {
    /// Bytes before the first message of a connection that was joined late, or before the next one after a loss.
    OutOfSync, "out_of_sync", "no message start seen yet";
    /// Bytes of a connection that speaks no protocol of this engine.
    ProtocolUnknown, "protocol_unknown", "not a known protocol";
    /// TLS records: such a connection is read where its TLS library encrypts and decrypts.
    TlsRecords, "tls_records", "TLS records";
    /// A header of the PROXY protocol has a valid start and an invalid rest.
    ProxyHeaderInvalid, "proxy_header_invalid", "invalid PROXY protocol header";
    /// A response whose request was not seen, or that arrived too early and too long to be held.
    ResponseWithoutRequest, "response_without_request", "response without its request";
    /// Bytes after a request to switch protocols which was refused, or whose response is not known, or which were
    /// too many to be held.
    SwitchUnanswered, "switch_unanswered", "protocol switch not answered";
    /// More requests without a response than [`crate::Limits::in_flight`]: responses can no longer be paired with
    /// requests.
    TooManyInFlight, "too_many_in_flight", "too many requests in flight";

    /// A header block, chunk-size line or trailer block is longer than [`crate::Limits::head`].
    HeadTooLong, "head_too_long", "header block over the limit";
    /// A message begins with neither a request line nor a status line.
    StartLineInvalid, "start_line_invalid", "invalid start line";
    /// A request in the direction of the responses, or the other way round.
    MessageFromWrongSide, "message_from_wrong_side", "message from the wrong side";
    /// A line of a header block is not a field.
    HeaderFieldInvalid, "header_field_invalid", "invalid header field";
    /// Content-Length is not a number, or its values differ.
    ContentLengthInvalid, "content_length_invalid", "invalid or conflicting content-length";
    /// The last transfer coding of a request is not chunked.
    TransferEncodingInvalid, "transfer_encoding_invalid", "request body without an end";
    /// A chunk does not begin with its size.
    ChunkSizeInvalid, "chunk_size_invalid", "invalid chunk size";
    /// The data of a chunk is not followed by an end of line.
    ChunkEndInvalid, "chunk_end_invalid", "chunk without an end of line";

    /// More open streams on an HTTP/2 connection than [`crate::Limits::streams`].
    TooManyStreams, "too_many_streams", "too many streams";
    /// A response that the server pushed without a request.
    PushedResponse, "pushed_response", "pushed response";
    /// An interim response (1xx) ends its stream, so that no final one can follow (RFC 9113 §8.1).
    InterimResponseEndsStream, "interim_response_ends_stream", "interim response that ends the stream";
    /// The length of a frame does not fit its type (RFC 9113 §4.2, §6).
    FrameSizeInvalid, "frame_size_invalid", "invalid frame size";
    /// A frame on a stream on which its type is not allowed.
    FrameStreamInvalid, "frame_stream_invalid", "frame on the wrong stream";
    /// A CONTINUATION frame outside of a field block, or another frame inside one.
    ContinuationInvalid, "continuation_invalid", "broken field block";
    /// The padding of a frame is longer than the frame.
    PaddingInvalid, "padding_invalid", "padding over the frame's length";
    /// The client's connection preface has a valid start and an invalid rest.
    PrefaceInvalid, "preface_invalid", "invalid connection preface";
    /// A field refers to a table entry that does not exist.
    HpackIndexInvalid, "hpack_index_invalid", "invalid index in a field block";
    /// An integer in a field block is too large.
    HpackIntegerTooLarge, "hpack_integer_too_large", "number too large in a field block";
    /// A field block ends inside a field.
    HpackTruncated, "hpack_truncated", "field block without its end";
    /// The size of the dynamic table changes in the middle of a field block.
    HpackTableSizeMisplaced, "hpack_table_size_misplaced", "misplaced table size update";
    /// A string literal is not a valid Huffman code.
    HuffmanInvalid, "huffman_invalid", "invalid huffman code";

    /// A gRPC message begins with undefined flags.
    GrpcFlagsInvalid, "grpc_flags_invalid", "invalid flags of a gRPC message";
    /// Missing bytes hide where the next gRPC message begins.
    GrpcGap, "grpc_gap", "missing bytes between gRPC messages";

    /// A WebSocket frame has reserved bits to which no extension gave a meaning (RFC 6455 §5.2).
    WebSocketReservedBits, "websocket_reserved_bits", "reserved bits of a WebSocket frame";
    /// The opcode of a WebSocket frame is not defined.
    WebSocketOpcodeUnknown, "websocket_opcode_unknown", "unknown WebSocket opcode";
    /// A WebSocket control frame is too long or fragmented (RFC 6455 §5.5).
    WebSocketControlFrameInvalid, "websocket_control_frame_invalid", "invalid WebSocket control frame";
    /// The length of a WebSocket frame has more than 63 bits.
    WebSocketLengthInvalid, "websocket_length_invalid", "invalid length of a WebSocket frame";
    /// A WebSocket message continues without a start, or begins inside another one (RFC 6455 §5.4).
    WebSocketFragmentInvalid, "websocket_fragment_invalid", "broken WebSocket message";
    /// Bytes of a WebSocket peer after its Close frame.
    WebSocketDataAfterClose, "websocket_data_after_close", "bytes after a WebSocket close";
    /// A WebSocket extension is unknown, or its field may have been lost.
    WebSocketExtensionUnknown, "websocket_extension_unknown", "unknown WebSocket extension";
    /// More compressed WebSockets on one HTTP/2 connection than [`crate::Limits::inflating`].
    TooManyCompressedWebSockets, "too_many_compressed_websockets", "too many compressed WebSockets";
    /// A compressed WebSocket message refers to earlier ones of which bytes are missing.
    WebSocketContextLost, "websocket_context_lost", "compressed WebSocket message after a loss";

    /// A document is not JSON.
    JsonInvalid, "json_invalid", "invalid JSON";
    /// The brackets of a JSON document are nested too deep.
    JsonTooDeep, "json_too_deep", "JSON nested over the limit";
    /// A body ends inside its JSON document.
    JsonTruncated, "json_truncated", "JSON without its end";
    /// A text is not base64.
    Base64Invalid, "base64_invalid", "invalid base64";

    /// The prelude of an event stream message is invalid, or its checksum is wrong.
    EventStreamPreludeInvalid, "event_stream_prelude_invalid", "invalid prelude of an event stream message";
    /// The headers of an event stream message do not have the announced length, or one is of an unknown type.
    EventStreamHeadersInvalid, "event_stream_headers_invalid", "invalid headers of an event stream message";
    /// The checksum of an event stream message does not match its bytes.
    EventStreamChecksumInvalid, "event_stream_checksum_invalid", "wrong checksum of an event stream message";
    /// Bytes of an event stream message are missing.
    EventStreamGap, "event_stream_gap", "missing bytes of an event stream message";
    /// A body ends inside an event stream message.
    EventStreamTruncated, "event_stream_truncated", "event stream message without its end";

    /// A boundary of a multipart body is not followed by the end of its line.
    MultipartBoundaryInvalid, "multipart_boundary_invalid", "invalid boundary of a multipart body";
    /// A multipart body ends before its last boundary.
    MultipartTruncated, "multipart_truncated", "multipart body without its end";

    /// A content coding is not supported.
    ContentCodingUnknown, "content_coding_unknown", "unknown content coding";
    /// A body has more content codings than are undone.
    TooManyContentCodings, "too_many_content_codings", "too many content codings";
    /// A decoded body is larger than [`crate::Limits::decoded`].
    DecodedTooLarge, "decoded_too_large", "decoded body over the size limit";
    /// A body grows by more than [`crate::Limits::ratio`] when it is decoded.
    DecodedRatioTooHigh, "decoded_ratio_too_high", "decoded body over the ratio limit";
    /// The bytes do not have the format of their content coding.
    ContentCodingCorrupt, "content_coding_corrupt", "corrupt content coding";
    /// A message ends inside its content coding.
    ContentCodingTruncated, "content_coding_truncated", "content coding without its end";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for Reason {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_in_snake_case() {
        let names: HashSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        let sentences: HashSet<&str> = Reason::ALL.iter().map(|reason| reason.sentence()).collect();
        assert_eq!((names.len(), sentences.len()), (Reason::ALL.len(), Reason::ALL.len()));
        for name in names {
            let words = name.split('_').all(|word| {
                !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            });
            assert!(words && name.as_bytes()[0].is_ascii_lowercase(), "{name}");
        }
    }
}
