//! The remarks of HTTP's parser, by the names that Suricata gives them.

use crate::ids::app::event::Event;

/// Those that a request and a response both can have.
#[derive(Debug)]
pub(super) struct Names {
    pub missing_colon: Event,
    pub invalid_folding: Event,
    pub header_invalid: Event,
    pub repetition: Event,
    pub too_many_headers: Event,
    pub field_too_long: Event,
    pub chunk_length: Event,
    pub chunk_extension: Event,
    pub transfer_encoding: Event,
    pub content_length: Event,
    pub duplicate_content_length: Event,
}

pub(super) const REQUEST: Names = Names {
    missing_colon: Event::http("REQUEST_FIELD_MISSING_COLON"),
    invalid_folding: Event::http("INVALID_REQUEST_FIELD_FOLDING"),
    header_invalid: Event::http("REQUEST_HEADER_INVALID"),
    repetition: Event::http("REQUEST_HEADER_REPETITION"),
    too_many_headers: Event::http("REQUEST_TOO_MANY_HEADERS"),
    field_too_long: Event::http("REQUEST_FIELD_TOO_LONG"),
    chunk_length: Event::http("INVALID_REQUEST_CHUNK_LEN"),
    chunk_extension: Event::http("REQUEST_CHUNK_EXTENSION"),
    transfer_encoding: Event::http("INVALID_TRANSFER_ENCODING_VALUE_IN_REQUEST"),
    content_length: Event::http("INVALID_CONTENT_LENGTH_FIELD_IN_REQUEST"),
    duplicate_content_length: Event::http("DUPLICATE_CONTENT_LENGTH_FIELD_IN_REQUEST"),
};

pub(super) const RESPONSE: Names = Names {
    missing_colon: Event::http("RESPONSE_FIELD_MISSING_COLON"),
    invalid_folding: Event::http("INVALID_RESPONSE_FIELD_FOLDING"),
    header_invalid: Event::http("RESPONSE_HEADER_INVALID"),
    repetition: Event::http("RESPONSE_HEADER_REPETITION"),
    too_many_headers: Event::http("RESPONSE_TOO_MANY_HEADERS"),
    field_too_long: Event::http("RESPONSE_FIELD_TOO_LONG"),
    chunk_length: Event::http("INVALID_RESPONSE_CHUNK_LEN"),
    chunk_extension: Event::http("RESPONSE_CHUNK_EXTENSION"),
    transfer_encoding: Event::http("RESPONSE_ABNORMAL_TRANSFER_ENCODING"),
    content_length: Event::http("INVALID_CONTENT_LENGTH_FIELD_IN_RESPONSE"),
    duplicate_content_length: Event::http("DUPLICATE_CONTENT_LENGTH_FIELD_IN_RESPONSE"),
};

pub(super) const UNMATCHED_RESPONSE: Event = Event::http("UNABLE_TO_MATCH_RESPONSE_TO_REQUEST");
pub(super) const CONTINUE_AGAIN: Event = Event::http("100_CONTINUE_ALREADY_SEEN");
pub(super) const MISSING_HOST: Event = Event::http("MISSING_HOST_HEADER");
pub(super) const AMBIGUOUS_HOST: Event = Event::http("HOST_HEADER_AMBIGUOUS");
pub(super) const INVALID_URI_HOST: Event = Event::http("URI_HOST_INVALID");
pub(super) const INVALID_HEADER_HOST: Event = Event::http("HEADER_HOST_INVALID");
pub(super) const METHOD_DELIMITER: Event = Event::http("METHOD_DELIM_NON_COMPLIANT");
pub(super) const URI_DELIMITER: Event = Event::http("URI_DELIM_NON_COMPLIANT");
pub(super) const LEADING_SPACE: Event = Event::http("REQUEST_LINE_LEADING_WHITESPACE");
pub(super) const REQUEST_LINE_INVALID: Event = Event::http("REQUEST_LINE_INVALID");
pub(super) const UNEXPECTED_REQUEST_BODY: Event = Event::http("REQUEST_BODY_UNEXPECTED");
pub(super) const UNEXPECTED_RESPONSE_BODY: Event = Event::http("RESPONSE_BODY_UNEXPECTED");
pub(super) const SWITCHING_WITH_BODY: Event = Event::http("SWITCHING_PROTO_WITH_CONTENT_LENGTH");
pub(super) const INVALID_STATUS: Event = Event::http("RESPONSE_INVALID_STATUS");
pub(super) const INVALID_PROTOCOL: Event = Event::http("RESPONSE_INVALID_PROTOCOL");
pub(super) const OLD_CHUNKED: Event = Event::http("RESPONSE_CHUNKED_OLD_PROTO");
pub(super) const TOO_MANY_ENCODINGS: Event = Event::http("TOO_MANY_ENCODING_LAYERS");
pub(super) const ABNORMAL_ENCODING: Event = Event::http("ABNORMAL_CE_HEADER");
pub(super) const BOMB: Event = Event::http("COMPRESSION_BOMB");
pub(super) const DECOMPRESSION_FAILED: Event = Event::http("GZIP_DECOMPRESSION_FAILED");
