//! The events that rules may name, and which of them a packet has.

use crate::ids::app::event::Event as AppEvent;
use crate::ids::rules::App;
use crate::ids::stream::Event as StreamEvent;

use super::scene::application_of;

/// The events that streams and parsers raise, as rules name them. Those of headers are of who reads them
/// ([`super::Packet::remarks`]); both go into [`crate::ids::rules::Setup::events`] and [`super::Compile::events`].
pub fn events() -> Vec<String> {
    let of_streams = StreamEvent::ALL.iter().map(|event| format!("stream.{}", event.name()));
    let of_parsers = PARSERS.iter().flat_map(|(app, names)| {
        let prefix = if app.is_empty() { String::new() } else { format!("{app}.") };
        names.iter().map(move |name| format!("{prefix}{name}"))
    });
    of_streams.chain(of_parsers).collect()
}

/// Whether a parser's event has this name, and is of this application's parser, or of none.
pub(super) fn is_event(event: AppEvent, app: Option<App>, name: &str) -> bool {
    event.protocol().and_then(application_of) == app && event.name().eq_ignore_ascii_case(name)
}

/// By parser; those of the guess of the protocol are of none.
const PARSERS: [(&str, &[&str]); 5] = [
    ("", &["applayer_detect_protocol_only_one_direction", "applayer_wrong_direction_first_data"]),
    (
        "dns",
        &[
            "infinite_loop",
            "invalid_additionals",
            "invalid_authorities",
            "invalid_opcode",
            "malformed_data",
            "name_too_long",
            "not_request",
            "not_response",
            "z_flag_set",
        ],
    ),
    (
        "http",
        &[
            "100_continue_already_seen",
            "abnormal_ce_header",
            "compression_bomb",
            "duplicate_content_length_field_in_request",
            "duplicate_content_length_field_in_response",
            "gzip_decompression_failed",
            "header_host_invalid",
            "host_header_ambiguous",
            "invalid_content_length_field_in_request",
            "invalid_content_length_field_in_response",
            "invalid_request_chunk_len",
            "invalid_request_field_folding",
            "invalid_response_chunk_len",
            "invalid_response_field_folding",
            "invalid_transfer_encoding_value_in_request",
            "method_delim_non_compliant",
            "missing_host_header",
            "request_body_unexpected",
            "request_chunk_extension",
            "request_field_missing_colon",
            "request_field_too_long",
            "request_header_invalid",
            "request_header_repetition",
            "request_line_invalid",
            "request_line_leading_whitespace",
            "request_too_many_headers",
            "response_abnormal_transfer_encoding",
            "response_body_unexpected",
            "response_chunk_extension",
            "response_chunked_old_proto",
            "response_field_missing_colon",
            "response_field_too_long",
            "response_header_invalid",
            "response_header_repetition",
            "response_invalid_protocol",
            "response_invalid_status",
            "response_too_many_headers",
            "switching_proto_with_content_length",
            "too_many_encoding_layers",
            "unable_to_match_response_to_request",
            "uri_delim_non_compliant",
            "uri_host_invalid",
        ],
    ),
    ("ssh", &["invalid_banner", "invalid_record", "long_banner", "long_kex_record"]),
    (
        "tls",
        &[
            "certificate_invalid_length",
            "handshake_invalid_length",
            "invalid_certificate",
            "invalid_handshake_message",
            "invalid_record_length",
            "invalid_record_type",
            "invalid_record_version",
            "invalid_sni_length",
            "invalid_sni_type",
            "invalid_sslv2_header",
            "multiple_sni_extensions",
        ],
    ),
];
